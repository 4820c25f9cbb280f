#!/bin/sh
# Write the passwords of compose.yaml into docker/secrets/, which only this user may enter.
# One that is there already stays as it is.
set -eu

cd "$(dirname "$0")/.."
mkdir -p docker/secrets
chmod 700 docker/secrets
for name in postgres redis orthanc; do
  file="docker/secrets/${name}_password"
  if [ ! -s "$file" ]; then
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$file"
    chmod 444 "$file"
  fi
done
echo "The passwords are in docker/secrets/; that of the archive's user lungwatch in orthanc_password."
