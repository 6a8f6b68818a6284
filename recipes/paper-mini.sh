#!/usr/bin/env bash
# The paper's study in small, on the model of paper-mini.conf: tables under recipes/paper-mini/ and
# a page of all figures. What is there is not made again, what was stopped is gone on with; what is
# there with other settings than these ends it, with a line that names it. Only a token file is taken
# as it is.
#
#   recipes/paper-mini.sh [PART...]        all of them, in this order:
#
#   tokens        corpora and token file
#   duo           big and small trained together, from scratch
#   frozen        big alone on 2/3 of the tokens, then small alone on 1/3
#   routers       on the trained model: 4, 6, 8 of 12 big; half big, half skipped; 50/30/20
#   oracle-prose  oracle studies of held-out prose,
#   oracle-code   and of held-out code
#   methods       beam and greedy searches beside the exact one
#   dense         models of one FFN, of the FLOPs of Duo at big probability 0, 0.5, 1,
#   dense-more    0.25 and 0.75
#   choices       a multiple choice from held-out text, answered by all models
#   tables        the tables and the page, of what there is
#
# Settings from the environment: DUO (the program), RECIPE, RUNS (the folder of run folders), TABLES
# (where they go), ROUTER_STEPS (300), WINDOWS (of an oracle study, 12), COMMITTED_WINDOWS (where
# tokens see the routes chosen before them, 8), EVAL_WINDOWS (of a held-out loss, 256), ITEMS (of a
# multiple choice, 500), RANDOM_PATTERNS (of which the best counts, 100).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/setup.sh"
. "$(dirname "${BASH_SOURCE[0]}")/../tools/same_settings.sh"
cd "$root"

duo=${DUO:-build/src/cli/duo}
recipe=${RECIPE:-recipes/paper-mini.conf}
# shellcheck disable=SC2034 # of tables.sh
tables=${TABLES:-recipes/paper-mini}
windows=${WINDOWS:-12}
committed_windows=${COMMITTED_WINDOWS:-8}
eval_windows=${EVAL_WINDOWS:-256}
items=${ITEMS:-500}
router_steps=${ROUTER_STEPS:-300}

# setting KEY: of the recipe, the first there is
setting() {
    sed -n "s/^ *$1 = \"\{0,1\}\([^\" ]*\).*/\1/p" "$recipe" | head -1
}

name=$(setting name)
runs=${RUNS:-checkpoints}
tokens=$(setting tokens)
run=$runs/$name
model=$run/stage-duo.h5
domains=(prose code)
parts=(tokens duo frozen routers oracle-prose oracle-code methods dense dense-more choices tables)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ---------------------------------------------------------------- training

# train RECIPE RUN STAGE: unless that stage is done
train() {
    same_settings "$duo" "$1" "$runs/$2"
    [ -e "$runs/$2/stage-$3.h5" ] && return
    say "training $2"
    "$duo" train "$1" --checkpoints "$runs" --auto-resume
}

# derived RUN STAGES: the recipe with another name, and these stages in place of its own
derived() {
    sed -e '/^stage /,$d' -e "s/^name = .*/name = $1/" "$recipe"
    printf '%s\n' "$2"
}

# stage KIND STEPS: the recipe's stage, trained so and so long
stage() {
    sed -n '/^stage /,$p' "$recipe" |
        sed -e "s/^stage .*/stage $1 {/" -e "s/^\( *steps = \).*/\1$2/"
}

train_frozen() {
    local all
    all=$(setting steps)
    derived "$name-frozen" "$(stage dense $((all * 2 / 3)))
$(stage small $((all - all * 2 / 3)))" >"$work/frozen.conf"
    train "$work/frozen.conf" "$name-frozen" small
}

# train_dense P: one FFN as wide as Duo's are on average when big has probability P
train_dense() {
    local width
    width=$(awk -v p="$1" -v big="$(setting d_big)" -v small="$(setting d_small)" \
        'BEGIN { print small + p * (big - small) }')
    derived "$name-dense-$1" "$(stage dense "$(setting steps)")" |
        sed "s/^\( *d_big = \).*/\1$width/" >"$work/dense.conf"
    train "$work/dense.conf" "$name-dense-$1" dense
}

# train_router VARIANT KEYS
train_router() {
    {
        derived "$name-$1" "init = \"$model\""
        echo "stage router { steps = $router_steps batch_size = 16 lr = 1e-2"
        echo "val_every = 0 save_every = 0 val_windows = 64 $2 }"
    } >"$work/router.conf"
    train "$work/router.conf" "$name-$1" router
}

routers=(plain-b4-s1 plain-b6-s1 plain-b8-s1 skip-b6-s1 three-s1)

train_routers() {
    train_router plain-b4-s1 "budget = 4"
    train_router plain-b6-s1 "budget = 6"
    train_router skip-b6-s1 'modules = "skip,big" budget = 6'
    train_router three-s1 \
        'modules = "skip,small,big" target_big = 0.5 target_small = 0.3 target_skip = 0.2'
    train_router plain-b8-s1 "budget = 8"
}

# ---------------------------------------------------------------- studies

# results FILE: what there is of it and of its study
results() {
    local kind
    for kind in 'done' h5 json jsonl tsv; do
        [ ! -e "$1.$kind" ] || echo "$1.$kind"
    done
}

# made_by FILE SETTINGS: fails where FILE.done, which holds those that FILE was made with, has others
made_by() {
    local before
    before=$(<"$1.done")
    if [ -z "$before" ]; then
        [ -n "${unknown:-}" ] || echo "$1 and others: made before settings were kept; taken as they are" >&2
        unknown=yes
    elif [ "$before" != "$2" ]; then
        echo "$1: was made by \`$before\`, not by \`$2\`; remove $(results "$1" | paste -sd ' ') to make it anew" >&2
        return 1
    fi
}

# study FROM FILE COMMAND...: unless FILE.done is newer than FROM, the checkpoint or whatever it is
# made of
study() {
    local from=$1 file=$2 settings="duo ${*:4}"
    settings=${settings//"$runs/"/}
    shift 2
    if [ "$file.done" -nt "$from" ]; then
        made_by "$file" "$settings"
        return
    fi
    # Made of an older one: its results are of another model or text.
    [ -e "$file.done" ] && results "$file" | xargs -d '\n' rm -f
    say "$file"
    "$@"
    echo "$settings" >"$file.done"
}

# oracle DOMAIN KIND OPTION...: KIND.h5, and what the tables are made of
oracle() {
    local file=$run/oracle-$1-$2 numbers=$run/tables/oracle-$1-$2 domain=$1
    shift 2
    study "$model" "$file" "$duo" oracle "$model" --domain "$domain" --output "$file.h5" \
        --json "$numbers.json" --tsv "$numbers.tsv" "$@"
}

oracles() {
    local committed=(--windows "$committed_windows")
    mkdir -p "$run/tables"
    oracle "$1" 6 "${committed[@]}" --budget 6 --control
    oracle "$1" 4 "${committed[@]}" --budget 4
    oracle "$1" 8 "${committed[@]}" --budget 8
    oracle "$1" skip-6 "${committed[@]}" --modules skip,big --budget skip:6 --control
    oracle "$1" all --windows "$windows" --context reference --compare --schedule 6:2 --schedule 2:6 \
        --random "${RANDOM_PATTERNS:-100}" --difficulty "$run/tables/difficulty-$1.tsv"
}

methods=(exact beam:1 beam:4 beam:16 beam:64 greedy:1 greedy:2 greedy:4)

search_methods() {
    mkdir -p "$run/methods"
    local method file
    for method in "${methods[@]}"; do
        file=$run/methods/${method/:/-}
        study "$model" "$file" "$duo" oracle "$model" --windows "$committed_windows" \
            --budget 6 --method "$method" --json "$file.json" --difficulty "$file.tsv"
    done
}

# ---------------------------------------------------------------- held-out losses and choices

# Figure 8: Duo by its big probability.
duo_policies=(--policy small --policy random:0.25 --policy random:0.5 --policy random:0.75
    --policy big)

# measure CHECKPOINT NAME POLICY_OPTION...: held-out loss, and accuracy on each multiple choice
measure() {
    local checkpoint=$1 of=$2 domain from
    shift 2
    [ -e "$checkpoint" ] || return 0
    study "$checkpoint" "$run/loss-$of" "$duo" eval "$checkpoint" "$@" \
        --windows "$eval_windows" --json "$run/loss-$of.json"
    for domain in "${domains[@]}"; do
        from=$checkpoint
        [ "$run/choices-$domain.jsonl" -nt "$from" ] && from=$run/choices-$domain.jsonl
        study "$from" "$run/choices-$domain-$of" "$duo" eval "$checkpoint" "$@" \
            --choices "$run/choices-$domain.jsonl" --json "$run/choices-$domain-$of.json"
    done
}

answer_choices() {
    local domain p file
    for domain in "${domains[@]}"; do
        file=$run/choices-$domain
        # Made before settings were kept.
        if [ -e "$file.jsonl" ] && ! [ -e "$file.done" ]; then touch -r "$file.jsonl" "$file.done"; fi
        study "$tokens" "$file" "$duo" choices "$tokens" --domain "$domain" \
            --items "$items" --output "$file.jsonl"
    done
    measure "$model" duo "${duo_policies[@]}"
    measure "$run-frozen/stage-small.h5" frozen "${duo_policies[@]}"
    for p in 0 0.25 0.5 0.75 1; do
        measure "$run-dense-$p/stage-dense.h5" "dense-$p" --policy big
    done
}

# Routers on the windows of the oracle studies.
measure_routers() {
    local router domain checkpoint
    mkdir -p "$run/tables"
    for router in "${routers[@]}"; do
        checkpoint=$run-$router/stage-router.h5
        [ -e "$checkpoint" ] || continue
        for domain in "${domains[@]}"; do
            study "$checkpoint" "$run/router-$domain-$router" "$duo" eval "$checkpoint" \
                --policy router --domain "$domain" --windows "$windows" \
                --json "$run/tables/router-$domain-$router.json" \
                --usage "$run/tables/router-$domain-$router.tsv" \
                --routes-out "$run/router-$domain-$router.h5"
        done
    done
}

# ---------------------------------------------------------------- parts

make_tokens() {
    [ -e "$tokens" ] && return
    tools/get_corpora.sh
    "$duo" prepare --output "$tokens" --vocab-size 2048 \
        --domain prose --input data/prose/train.jsonl --held-out data/prose/held_out.jsonl \
        --domain code --input data/code/train.jsonl --held-out data/code/held_out.jsonl
}

run_part() {
    case $1 in
    tokens) make_tokens ;;
    duo) train "$recipe" "$name" duo ;;
    frozen) train_frozen ;;
    routers)
        train_routers
        measure_routers
        ;;
    oracle-prose) oracles prose ;;
    oracle-code) oracles code ;;
    methods) search_methods ;;
    dense)
        train_dense 0.5
        train_dense 0
        train_dense 1
        ;;
    dense-more)
        train_dense 0.25
        train_dense 0.75
        ;;
    choices) answer_choices ;;
    tables)
        # shellcheck source=recipes/paper-mini/tables.sh
        . recipes/paper-mini/tables.sh
        make_tables
        ;;
    *)
        echo "paper-mini.sh: no part $1, only ${parts[*]}" >&2
        exit 2
        ;;
    esac
}

main() {
    local part wanted=("$@")
    [ $# -gt 0 ] || wanted=("${parts[@]}")
    if [ ! -x "$duo" ]; then
        install_packages "${duo_packages[@]}"
        build build
    fi
    for part in "${wanted[@]}"; do run_part "$part"; done
    exit
}

main "$@"
