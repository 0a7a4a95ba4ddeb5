# shellcheck shell=bash
# Sourced by demo.sh and test.sh from the top of the checkout: makes .venv and keeps it as a lock says.

die() { echo "${0##*/}: $*" >&2; exit 1; }

# Prints a Python of 3.11 or newer: $PYTHON, else the first one on PATH, the oldest supported first.
find_python() {
  local python
  for python in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  die "needs Python 3.11 or newer, and found none on PATH; install one, or name it: PYTHON=/path/to/python3.11 $0"
}

# What .venv must have been installed from to be current: this folder (an editable install points at it), lock, project.
wanted_from() { printf '%s\n' "$PWD" "$(<"$1")" "$(<pyproject.toml)"; }

is_installed() { [[ -f .venv/installed-$1 && $(<".venv/installed-$1") == "$(wanted_from "$1")" ]]; }

# Makes .venv if there is none that works, and installs what the lock $1 names and the project itself, if either changed.
install() {
  local lock=$1 python
  if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(find_python)
    echo "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
  fi
  is_installed "$lock" && return
  echo "installing $lock into .venv"
  rm -f .venv/installed-*
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
  wanted_from "$lock" >".venv/installed-$lock"
}
