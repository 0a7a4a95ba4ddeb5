# shellcheck shell=bash
# Completion of queuectl for bash 4.4 and newer.
_queuectl_complete() {
  local program=${COMP_WORDS[0]/#\~\//$HOME/}
  mapfile -t COMPREPLY < <(
    _QUEUECTL_COMPLETE=bash "$program" "${COMP_LINE:0:COMP_POINT}" "$COMP_TYPE" "$COMP_WORDBREAKS" 2>/dev/null
  )
}
complete -o nosort -o bashdefault -o default -F _queuectl_complete queuectl
