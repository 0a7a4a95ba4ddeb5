# Completion of queuectl for fish.
function __queuectl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l candidates (_QUEUECTL_COMPLETE=fish $words[1] $words[2..-1] $current 2>/dev/null)
    if test (count $candidates) -gt 0
        printf '%s\n' $candidates
    else
        __fish_complete_path $current
    end
end
complete --command queuectl --no-files --keep-order --arguments '(__queuectl_complete)'
