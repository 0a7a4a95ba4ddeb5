#!/usr/bin/env bash
# Every check, then the tests; arguments go on to pytest: `./test.sh -k claims`, `./test.sh --cov=queuectl`.
# Makes .venv, the development environment, from requirements-dev.lock. PYTHON names the Python to make it with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh

install requirements-dev.lock
export PATH=$PWD/.venv/bin:$PATH
tests/install-tools.sh

check() { echo "-- $*"; "$@"; }

check ruff format --check --quiet .
check ruff check --quiet .
check mypy
check lint-imports --no-logo
check shellcheck ./*.sh tests/*.sh .ci/run queuectl/cli/shells/*.bash
check hadolint Dockerfile
# Tests spend most of their time waiting for processes: four at a time on two cores. -n0 for one by one.
check pytest -n 4 --dist loadgroup "$@"
