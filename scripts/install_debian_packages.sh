#!/usr/bin/env bash
# Install the Debian packages the tests speak to, or only those named, where they are missing.
# Only root can; everybody else is told what is missing, and the tests that need it skip.
set -euo pipefail
shopt -s nullglob

# One line each: what shows that it is there, and the package that brings it.
readonly NEEDED="
/usr/sbin/Orthanc orthanc
/usr/share/orthanc/plugins/libOrthancDicomWeb.so orthanc-dicomweb
/usr/bin/storescu dcmtk
/usr/bin/redis-server redis-server
/usr/lib/postgresql/*/bin/initdb postgresql
/usr/bin/DicomSRValidator pixelmed-apps
/usr/bin/chromium chromium
/usr/share/fonts/truetype/*/*.ttf fonts-dejavu-core
/usr/bin/npm npm
/usr/bin/strace strace
"

missing=()
if (($# > 0)); then
    for package in "$@"; do
        [[ -x /usr/bin/$package ]] || missing+=("$package")
    done
else
    while read -r proof package; do
        found=($proof)
        [[ -n $package && (${#found[@]} -eq 0 || ! -e ${found[0]}) ]] && missing+=("$package")
    done <<<"$NEEDED"
fi

if ((${#missing[@]} == 0)); then
    exit 0
fi
if [[ $(id -u) -ne 0 || ! -x /usr/bin/apt-get ]]; then
    echo "Missing: ${missing[*]}. As root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 0
fi
echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    exit 1
fi
