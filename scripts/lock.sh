#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml with pip-compile ($1); keep no trace of where they
# came from.
set -euo pipefail

export CUSTOM_COMPILE_COMMAND="make lock"
options=(
    --quiet --generate-hashes --allow-unsafe --strip-extras --build-deps-for=editable
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
)

"$1" "${options[@]}" --output-file requirements.lock pyproject.toml
"$1" "${options[@]}" --extra train --extra dev --constraint requirements.lock \
    --output-file requirements-dev.lock pyproject.toml

if grep --extended-regexp '^[^#]*(://|file:| @ |^-)' requirements.lock requirements-dev.lock; then
    echo "A lock file names where its packages came from: see the lines above." >&2
    exit 1
fi
