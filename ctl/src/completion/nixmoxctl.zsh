#compdef nixmoxctl
# Completion of nixmoxctl in zsh.

_nixmoxctl() {
    local answer code
    local -a lines
    answer=$(NIXMOXCTL_COMPLETE=zsh nixmoxctl -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    code=$?
    if (( code == 3 )); then
        # The name of a file, which may stand behind an option.
        [[ $PREFIX == --*=* ]] && compset -P 1 '*='
        _files
    elif (( code == 0 )) && [[ -n $answer ]]; then
        lines=("${(@f)answer}")
        _describe -V nixmoxctl lines
    fi
}

# Found in a folder of fpath, or read with source.
if [[ ${funcstack[1]} == _nixmoxctl ]]; then
    _nixmoxctl "$@"
else
    compdef _nixmoxctl nixmoxctl
fi
