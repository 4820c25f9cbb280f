"""The lock files are complete, agree with each other, and do not tell where packages came from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]
_ENTRY = re.compile(
    r"^([a-z0-9.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)
_LOCKS = ("requirements.lock", "requirements-dev.lock")


def _read(name: str) -> str:
    return (_REPOSITORY / name).read_text()


def _versions(name: str) -> dict[str, str]:
    return {package: version for package, version, _ in _ENTRY.findall(_read(name))}


def _names(requirements: list[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9.-]+", each)[0].lower() for each in requirements}


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads(_read("pyproject.toml"))


@pytest.mark.parametrize("name", _LOCKS)
def test_every_line_is_a_pinned_and_summed_package_or_a_comment(name: str) -> None:
    rest = _ENTRY.sub("", _read(name))
    assert [line for line in rest.splitlines() if line and not line.lstrip().startswith("#")] == []


@pytest.mark.parametrize("name", _LOCKS)
def test_no_registry_and_no_folder_is_named(name: str) -> None:
    assert not re.search(r"://|/simple|/opt/|index-url|find-links|trusted-host", _read(name))


def test_runtime_lock_holds_what_the_project_asks_for(project: dict[str, dict]) -> None:
    asked = _names(project["project"]["dependencies"]) | _names(project["build-system"]["requires"])
    assert asked <= _versions("requirements.lock").keys()


def test_development_lock_adds_dev(project: dict[str, dict]) -> None:
    asked = _names(project["project"]["optional-dependencies"]["dev"])
    assert asked <= _versions("requirements-dev.lock").keys()


def test_a_package_has_one_version_in_both() -> None:
    runtime, development = (_versions(name) for name in _LOCKS)
    assert runtime.items() <= development.items()
