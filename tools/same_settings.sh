# shellcheck shell=bash
# Sourced by scripts that train what is not there yet: a run of other settings is not taken for it.

# resolved_recipe DUO RECIPE: with all keys but those that change no weights, and files by their
# last two names, wherever they are. What is watched and saved how often (val_every, val_windows,
# save_every) says which step is best.h5 and where a rollback goes to, and micro_batch how sums round.
# $work is a folder of the caller's.
resolved_recipe() {
    local text complaint log=${work:?}/dry-run.log
    text=$("$1" train "$2" --dry-run 2>"$log") || {
        complaint=$(sed -n '/^duo: /p' "$log" | tail -1)
        echo "${complaint:-$2: its dry run fails and says '$(tail -1 "$log")'}" >&2
        return 1
    }
    text=$(sed -E '/^parameters /,$d; /^ *(keep|log_every|spike_window|spike_sigma) = /d
        s|^( *[a-z]+ = ").*/([^/"]+/[^/"]+")$|\1\2|; s/^ *//' <<<"$text")
    # Routers that are told the budget are trained for all.
    case $text in *'router_inputs = "budget'*) text=$(sed '/^target_big = /d' <<<"$text") ;; esac
    printf '%s\n' "$text"
}

# same_settings DUO RECIPE FOLDER: fails where checkpoints of FOLDER are of another recipe, and says
# in which keys
same_settings() {
    local before now changes
    compgen -G "$3/*.h5" >/dev/null || return 0
    if ! [ -e "$3/recipe.conf" ]; then
        echo "$3: holds no recipe.conf; taken as it is, whatever it was trained with" >&2
        return 0
    fi
    before=$(resolved_recipe "$1" "$3/recipe.conf") || return
    now=$(resolved_recipe "$1" "$2") || return
    changes=$(diff --unchanged-line-format= --old-line-format='was %L' --new-line-format='is now %L' \
        <(echo "$before") <(echo "$now") | paste -sd ';' | sed 's/;/; /g') || true
    [ -z "$changes" ] && return
    echo "$3: was trained with other settings: $changes; move it away to train it anew" >&2
    return 1
}
