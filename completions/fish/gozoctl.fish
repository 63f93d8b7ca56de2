# Completion of gozoctl for fish 3.4 or later.

function __gozoctl_complete
    set -l answer (_GOZOCTL_COMPLETE=complete_fish \
        _TYPER_COMPLETE_ARGS=(commandline --cut-at-cursor --current-process | string collect) \
        gozoctl 2>/dev/null </dev/null)
    set -l word (commandline --cut-at-cursor --current-token)
    set -l option (string replace --regex -- '^(-[^=]*=)?.*' '$1' "$word")
    set -l path (string replace --regex -- '^-[^=]*=' '' "$word")
    switch "$answer[1]"
        case values
            printf '%s\n' $answer[2..]
        case files
            printf '%s\n' $option(__fish_complete_path $path)
        case directories
            printf '%s\n' $option(__fish_complete_directories $path)
    end
end

complete --command gozoctl --no-files --arguments '(__gozoctl_complete)'
