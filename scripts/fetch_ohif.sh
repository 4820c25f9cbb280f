#!/usr/bin/env bash
# Unpack the OHIF viewer into the folder $1; the tests show results in it.
set -euo pipefail

readonly VERSION=3.13.2
readonly SHA256=b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1

folder=$1
rm -rf "$folder"
mkdir -p "$folder"
if ! command -v npm >/dev/null; then
    echo "npm is missing, so the viewer tests have no OHIF: apt-get install npm" >&2
    exit 0
fi
echo "Fetching OHIF $VERSION (50 MB)"
archive=$(npm pack "@ohif/app@$VERSION" --silent --pack-destination "$folder")
echo "$SHA256  $folder/$archive" | sha256sum --check --quiet
tar --extract --gzip --file "$folder/$archive" --directory "$folder" --strip-components=1 \
    package/dist
rm "$folder/$archive"
