# Completion of nixmoxctl in fish.

function __nixmoxctl_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    NIXMOXCTL_COMPLETE=fish nixmoxctl -- $words "$current" 2>/dev/null
    if test $status -eq 3
        # The name of a file, which may stand behind an option.
        set -l option (string match --regex '^--[^=]*=' -- "$current")
        set -l begun (string replace --regex '^--[^=]*=' '' -- "$current")
        for path in (__fish_complete_path "$begun")
            echo "$option$path"
        end
    end
end

complete --command nixmoxctl --no-files --keep-order --arguments '(__nixmoxctl_complete)'
