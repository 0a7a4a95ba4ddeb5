#!/usr/bin/env bash
# A tour of queuectl: three jobs, one of which fails until its cause is put right. Exits non-zero if a step did not do what it says.
# The store is a throw-away one, or the one that QUEUECTL_DB_PATH names; everything happens in a queue `demo` of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ -f pyproject.toml ]]; then
  # A checkout. In the image there is none, and queuectl is on PATH.
  source ./setup.sh
  is_installed requirements-dev.lock || install requirements.lock
  PATH=$PWD/.venv/bin:$PATH
fi

for variable in ${!QUEUECTL_@}; do # defaults of the caller's own would make other steps of these
  [[ $variable == QUEUECTL_DB_PATH ]] || unset "$variable"
done
scratch=$(mktemp -d -t queuectl-demo.XXXXXX)
export QUEUECTL_DB_PATH=${QUEUECTL_DB_PATH:-$scratch/queue.db}

started=
clean_up() {
  local code=$?
  trap - EXIT
  [[ -z $started ]] || queuectl worker stop --queue demo --now >/dev/null 2>&1 || true
  rm -rf "$scratch"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

heading() { printf '\n== %s\n' "$*"; }
fail() { echo "demo.sh: $*" >&2; exit 1; }

# Shows the command as it would be typed, then runs it.
run() {
  local word line=queuectl
  for word; do
    [[ $word =~ ^[[:alnum:]/._:=-]+$ ]] || word="'$word'"
    line+=" $word"
  done
  printf '\n$ %s\n' "$line" >&2
  queuectl "$@"
}

in_state() { grep -qxF -- "$2" <(queuectl list --queue demo --state "$1" --limit 0 --quiet 2>/dev/null); }

# Waits until each job named after the state is in it.
await() {
  local state=$1 id tries
  shift
  for id; do
    for ((tries = 0; tries < 150; tries++)); do
      in_state "$state" "$id" && continue 2
      sleep 0.2
    done
    fail "job $id is not $state after 30 s"
  done
}

heading "Three jobs, of which the last fails as long as a file is missing"
hello=$(run enqueue --queue demo 'echo hello; sleep 1; echo goodbye') && echo "$hello"
sums=$(run enqueue "{\"command\": \"seq 1000000 | tail -1\", \"queue\": \"demo\", \"priority\": 5}") && echo "$sums"
broken=$(run enqueue --queue demo --max-retries 1 --backoff-base 1 -- cat "$scratch/report.txt") && echo "$broken"

heading "Two worker processes, away from this terminal"
started=yes
run worker start --detach --queue demo --count 2

heading "What they are doing"
run status
run list --queue demo

heading "The one that fails is tried again a second later, and then goes to the dead letter queue"
await completed "$hello" "$sums"
await dead "$broken"
run dlq list
run logs "$broken"
[[ $(queuectl logs "$hello") == $'hello\ngoodbye' ]] || fail "job $hello did not print what it should have"
grep -qF -- "$broken" <(queuectl dlq list) || fail "job $broken is not in the dead letter queue"

heading "Its cause is put right, and it is retried from there"
echo "all is well" >"$scratch/report.txt"
run dlq retry "$broken"
await completed "$broken"
run show "$broken"

heading "The workers are stopped"
run worker stop --queue demo
started=

heading "In the end"
run list --queue demo
run status
printf '\nAll three jobs completed.\n'
