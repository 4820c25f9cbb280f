#!/usr/bin/env bash
# Make or update the virtual environment $1 from the lock file $2, and install the package into it.
set -euo pipefail

environment=$1
lock=$2

suits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in "${LUNGWATCH_PYTHON:-}" python3.11 python3 python3.12 python3.13; do
        if [[ -n $candidate ]] && suits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.11, 3.12 or 3.13 is needed: apt-get install python3 python3-venv," \
        "or name one in LUNGWATCH_PYTHON." >&2
    return 1
}

if [[ ! -x $environment/bin/pip ]]; then
    [[ -x /usr/bin/python3 ]] || "$(dirname "$0")/install_debian_packages.sh" python3
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        "$(dirname "$0")/install_debian_packages.sh" python3-venv
    fi
    echo "Making $environment with $("$python" --version)"
    "$python" -m venv "$environment"
fi

echo "Installing $(grep -c '^[a-z].*==' "$lock") packages of $lock into $environment" \
    "(some minutes the first time)"
# The lock is complete: nothing is left to resolve.
"$environment/bin/pip" install -qq --no-compile --require-hashes --no-deps --requirement "$lock"
"$environment/bin/pip" install -qq --no-deps --no-build-isolation --editable .
