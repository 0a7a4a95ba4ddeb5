#!/usr/bin/env bash
# Two hosts share a queue, and the cable of one of them is pulled while it runs a job. Prints what is typed where, and
# what it answers: docs/fleet.md shows it. As root, from anywhere: tests/two-hosts.sh
#
# Each host is a network of its own (and host name, process numbers, /proc, home folder), with a cable to a third one,
# which is the database server. All of it lives in namespaces that end with this script, so nothing has to be undone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "two-hosts.sh: $*" >&2; exit 1; }

if [[ ${1-} != inside ]]; then
  [[ $EUID -eq 0 ]] || fail "needs root: it makes network namespaces"
  scratch=$(mktemp -d /tmp/queuectl-hosts.XXXXXX) # a path that the server's user may go
  chmod 755 "$scratch"
  trap 'rm -rf "$scratch"' EXIT
  unshare --net --mount --pid --fork --kill-child --mount-proc "$PWD/tests/two-hosts.sh" inside "$scratch"
  exit
fi

scratch=$2
checkout=$PWD
readonly DATABASE=10.9.0.1
readonly LIMIT_SECONDS=120 # for a busy machine; nothing here takes half of that
for variable in ${!QUEUECTL_@} ${!PG@}; do unset "$variable"; done
export PATH=$PWD/.venv/bin:$PATH QUEUECTL_DATABASE_URL=postgresql://postgres@db/queue

# The database server, at an address that both networks reach.
ip link set lo up
ip address add $DATABASE/32 dev lo
printf '127.0.0.1 localhost\n%s db\n' $DATABASE >"$scratch/hosts"
mount --bind "$scratch/hosts" /etc/hosts
cd "$scratch"
PYTHONPATH=$checkout python - data $DATABASE <<'END'
import sys
from pathlib import Path
from tests import servers

folder, address = Path(sys.argv[1]).resolve(), sys.argv[2]
server = servers.make_server(folder)
with (folder / "pg_hba.conf").open("a") as access:
    access.write("host all all 10.9.0.0/16 trust\n")
servers.start_server(server, address=address)
servers.run_tool(server, "createdb", "-h", str(folder), "-U", "postgres", "queue")
END

# Makes a host with a cable to the server: make_host NAME NUMBER
declare -A inside
make_host() {
  local name=$1 net=10.9.$2 starter
  unshare --net --uts --mount --pid --fork --kill-child --mount-proc sleep infinity &
  starter=$!
  await "$name" pgrep -P $starter
  inside[$name]=$(pgrep -P $starter)
  ip link add "to-$name" type veth peer name cable netns "${inside[$name]}"
  ip address add "$net.1/24" dev "to-$name"
  ip link set "to-$name" up
  mkdir "$scratch/$name"
  quietly_on "$name" sh -c "echo $name >/proc/sys/kernel/hostname; ip link set lo up; ip address add $net.2/24 dev cable;
    ip link set cable up; ip route add default via $net.1"
}

quietly_on() {
  local name=$1
  shift
  HOME=$scratch/$name nsenter --target "${inside[$name]}" --net --uts --mount --pid --wd="$scratch" "$@"
}

# Shows a command line as it is typed on a host, and its answer.
on() {
  printf '\n[%s]$ %s\n' "$1" "$2"
  quietly_on "$1" bash -c "$2" 2>&1
}

# Waits until a command succeeds: await WHAT COMMAND...
await() {
  local what=$1 deadline=$((SECONDS + LIMIT_SECONDS))
  shift
  until "$@" >/dev/null; do
    ((SECONDS < deadline)) || fail "waited $LIMIT_SECONDS s in vain for $what"
    sleep 1
  done
}

# Prints what a Python expression makes of a command's JSON: read_json HOST EXPRESSION COMMAND...
read_json() {
  quietly_on "$1" queuectl "${@:3}" --json | python -c "import json, sys; it = json.load(sys.stdin); print($2)"
}
is_done() { [[ $(read_json "$1" "it['states']['completed']" status) == "$2" ]]; }
host_of() { read_json host-a "it['history'][-1]['host']" show "$1"; }
is_there() { [[ $(read_json "$1" "'$2' in {w['host'] for w in it}" worker list) == True ]]; }

make_host host-a 1
make_host host-b 2

on host-a 'queuectl db upgrade'
on host-a 'queuectl config set lease 12s'
on host-a 'queuectl worker start --detach'
on host-b 'queuectl worker start --detach'
on host-a "seq 6 | sed 's/.*/{\"id\": \"hello-&\", \"command\": \"sleep 1; echo hello from \$(hostname)\"}/' | queuectl enqueue --file -"
on host-b 'queuectl worker list'
await "six jobs" is_done host-b 6
on host-b 'queuectl status'
on host-b 'queuectl list'
far=
for number in 1 2 3 4 5 6; do
  [[ $(host_of hello-$number) != host-a ]] || far=hello-$number
done
[[ $far ]] || fail "host-b has run all of the jobs"
on host-a "queuectl logs $far"
on host-b "queuectl logs $far"

on host-a "queuectl enqueue --id long 'until [ -e enough ]; do hostname >>steps; sleep 0.3; done'"
await "the long job" test -s steps
cut=$(head -n 1 steps)
other=host-a
[[ $cut == host-b ]] || other=host-b

printf '\n# The cable of %s is pulled.\n' "$cut"
ip link set "to-$cut" down
on $other 'queuectl worker list'
await "the other host to start the job" grep -qx $other steps
on $other 'queuectl worker list'
on "$cut" 'tail -n 3 ~/.queuectl/*/store.worker.log'

printf '\n# The cable of %s is back.\n' "$cut"
ip link set "to-$cut" up
touch enough
await "the end of the long job" is_done $other 7
await "a worker of the host that was cut off" is_there "$other" "$cut"
on "$cut" 'tail -n 3 ~/.queuectl/*/store.worker.log'
on $other 'queuectl show long'
on $other 'uniq -c steps'
on $other 'queuectl worker list'
on $other 'queuectl audit'
on $other 'queuectl worker stop'
