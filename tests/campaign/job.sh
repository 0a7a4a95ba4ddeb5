# shellcheck shell=sh
# One job of a campaign. Sourced by the command, with what it is to do as $1 and $2. It writes down
# when it ran: one line a sign, each one write to a file that is only appended to.
say() {
  read -r now _ </proc/uptime
  printf '%s %s %s %s %s %s %s %s %s .\n' "$1" "$QUEUECTL_JOB_ID" "$QUEUECTL_ATTEMPT" \
    "$QUEUECTL_CLAIM" "$QUEUECTL_WORKER_ID" "$CAMPAIGN_SUPERVISOR" "$PPID" "$now" "$2" \
    >>"$CAMPAIGN_JOURNAL"
}

tick() {
  left=$1
  while [ "$left" -gt 0 ]; do
    sleep "${2:-0.05}"
    say tick -
    left=$((left - 1))
  done
}

finish() {
  say end "$1"
  exit "$1"
}

child() {
  set -- sh "$CAMPAIGN_CHILD" "$1" "$CAMPAIGN_JOURNAL" "$QUEUECTL_JOB_ID" "$QUEUECTL_ATTEMPT" \
    "$QUEUECTL_CLAIM" "$QUEUECTL_WORKER_ID" "$CAMPAIGN_SUPERVISOR" "$PPID"
  case $1$3 in
    shhidden) exec env -i PATH="$PATH" setsid "$@" ;;
    *) exec setsid "$@" ;;
  esac
}

say start -
case $1 in
  tick) tick "$2" ;;
  nap) tick "$2" 0.25 ;;
  fail) [ "$QUEUECTL_ATTEMPT" -gt "$2" ] || finish 3 ;;
  setsid)
    child child &
    tick 4
    ;;
  fork)
    (child child &)
    tick 4
    ;;
  hidden)
    child hidden &
    tick 4
    ;;
  slow) tick 200 ;;
  print) yes 'a line of output, again and again' | head -c 200000 ;;
esac
finish 0
