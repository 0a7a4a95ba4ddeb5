#!/usr/bin/env bash
# Brings in the programs that tests run and no Python package holds. Where it cannot, it says so, and those tests fail.
set -euo pipefail

# Prints the Debian packages of what is not there; they bear the programs' names, but for that of `ip`.
missing() {
  local tool
  for tool in strace faketime zsh fish git tmux pgbouncer openssl; do
    PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || printf '%s ' "$tool"
  done
  # Only root makes network namespaces.
  [[ $EUID -ne 0 ]] || command -v ip >/dev/null || printf 'iproute2 '
}

read -ra packages <<<"$(missing)"
[[ ${#packages[@]} -eq 0 ]] && exit 0

if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
  echo "installing for the tests: ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq || true
  apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || true
fi

still=$(missing)
[[ -z $still ]] || echo "WARNING: not on this machine: ${still}- the tests that need them will fail" >&2
