#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml into the lock files; keep no trace of where they came
# from.
set -euo pipefail

# Debian's Python, the oldest we run on: it needs backports that a later one would leave out, and
# which do a later one no harm.
readonly PYTHON=${LUNGWATCH_PYTHON:-/usr/bin/python3}

export CUSTOM_COMPILE_COMMAND="make lock"
options=(
    --quiet --generate-hashes --allow-unsafe --strip-extras --build-deps-for=editable
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
)

environment=$(mktemp --directory)
trap 'rm -rf "$environment"' EXIT
"$PYTHON" -m venv "$environment"
"$environment/bin/pip" install -qq pip-tools
compile=$environment/bin/pip-compile

"$compile" "${options[@]}" --output-file requirements.lock pyproject.toml
"$compile" "${options[@]}" --extra dev --constraint requirements.lock \
    --output-file requirements-dev.lock pyproject.toml

if grep --extended-regexp '^[^#]*(://|file:| @ |^-)' requirements.lock requirements-dev.lock; then
    echo "A lock file names where its packages came from: see the lines above." >&2
    exit 1
fi
