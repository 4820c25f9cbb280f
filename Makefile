# Every target sets up what it needs; a second run finds it done.
#
#   make demo [STUDY=DIR]   screen a synthetic chest CT, or the study in DIR, into demo-out/
#   make test               everything the tests need, then the tests [PYTEST_ARGS="-k seg"]
#   make lint types layers  style, static types, import contracts
#   make faults [SHORT=1]   inject every fault, write docs/reliability.md [ONLY="power_cut ..."]
#   make bench              measure start-up, receiving, decoding, the network on whole series, killed training
#   make docs               write the generated pages and tables of docs/ again
#   make lock               resolve the dependencies of pyproject.toml again
#   make clean              remove what the targets above made, but the environment

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
OHIF := .cache/ohif/.ready
DATA := $(or $(LUNGWATCH_TEST_DATA),../shared/data)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo test lint types layers faults bench docs lock clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(RUNTIME)
	$(BIN)/lungwatch demo --out demo-out $(if $(STUDY),--study "$(STUDY)")

test: $(DEVELOPMENT) $(OHIF)
	@scripts/install_debian_packages.sh
	$(PYTHON) -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 25 \
		$(PYTEST_ARGS)

faults: $(DEVELOPMENT)
	@scripts/install_debian_packages.sh
	PYTHONPATH=. $(PYTHON) -m bench.faults $(if $(SHORT),--short) $(if $(ONLY),--only $(ONLY))

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOPMENT)
	$(BIN)/mypy

layers: $(DEVELOPMENT)
	$(BIN)/lint-imports --no-logo

bench: $(DEVELOPMENT)
	$(PYTHON) bench/startup.py
	$(PYTHON) bench/receive.py "$(DATA)/series/lidc-idri-0001"
	$(PYTHON) bench/decoding.py "$(DATA)/series/covidctmd-P001"
	$(PYTHON) bench/series_check.py "$(DATA)" docs/results/series.md
	PYTHONPATH=. $(PYTHON) bench/training_resume.py --out docs/results/resume.md
	PYTHONPATH=. $(PYTHON) bench/full_scale.py

docs: $(DEVELOPMENT)
	$(PYTHON) -m worker.cli.reference
	$(PYTHON) -m dicom_node.conformance docs/conformance.md

lock:
	scripts/lock.sh

clean:
	rm -rf demo-out test-artifacts build dist .cache .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(RUNTIME): requirements.lock pyproject.toml
	@scripts/make_environment.sh $(VENV) requirements.lock
	@touch $@

$(DEVELOPMENT): requirements-dev.lock pyproject.toml
	@scripts/make_environment.sh $(VENV) requirements-dev.lock
	@touch $@ $(RUNTIME)

$(OHIF): scripts/fetch_ohif.sh
	@scripts/install_debian_packages.sh
	@scripts/fetch_ohif.sh $(@D)
	@[[ ! -d $(@D)/dist ]] || touch $@
