#!/usr/bin/env bash
# Renews the two locks from pyproject.toml: `./lock.sh` keeps what still fits, `./lock.sh --upgrade` takes the newest.
# Needs uv. The locks name packages and hashes for every platform, and no index. They keep the extras: pip 23 takes a
# newer coverage for `coverage[toml]` where the lock says only `coverage==`, and then refuses it for want of a hash.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

command -v uv >/dev/null || { echo "lock.sh: uv was not found (it is a package on the Python index)" >&2; exit 1; }

compile() {
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-strip-extras --custom-compile-command ./lock.sh pyproject.toml "$@"
}

compile --extra postgresql --group build --output-file requirements.lock "$@"
compile --group dev --constraint requirements.lock --output-file requirements-dev.lock "$@"
