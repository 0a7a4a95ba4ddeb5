# shellcheck shell=sh
# What a job leaves behind: it tells for ten seconds that it lives, if it is let.
kind=$1 journal=$2
shift 2
left=100
while [ "$left" -gt 0 ]; do
  read -r now _ </proc/uptime
  printf '%s %s %s %s %s %s %s %s - .\n' "$kind" "$@" "$now" >>"$journal"
  sleep 0.1
  left=$((left - 1))
done
