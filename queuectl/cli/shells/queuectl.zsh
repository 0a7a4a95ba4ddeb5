#compdef queuectl
# Completion of queuectl for zsh.
_queuectl_complete() {
  local -a candidates
  candidates=("${(@f)$(_QUEUECTL_COMPLETE=zsh ${~words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  if [[ -n ${candidates[1]} ]]; then
    _describe -V 'queuectl' candidates
  else
    _files
  fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _queuectl_complete queuectl
