# Completion of nixmoxctl in bash.

_nixmoxctl() {
    local answer
    answer=$(NIXMOXCTL_COMPLETE=bash nixmoxctl -- "${COMP_WORDS[@]:0:COMP_CWORD}" "$2" 2>/dev/null)
    case $? in
        0) [[ -n $answer ]] && mapfile -t COMPREPLY <<<"$answer" ;;
        # The name of a file, which readline completes.
        3) compopt -o default +o nospace ;;
    esac
}

complete -o nospace -o nosort -F _nixmoxctl nixmoxctl
