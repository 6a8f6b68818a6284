#!/usr/bin/env bash
# Routers of several kinds on one trained model, at several budgets, in one table.
#
#   tools/compare_routers.sh RUN [BUDGETS [VARIANTS [SEEDS]]]
#
# RUN is a run folder with a stage-duo.h5 and a recipe.conf, as checkpoints/paper-mini. Each router is
# a run of its own, RUN-VARIANT-bBUDGET-sSEED beside it, which is not trained again when it is there,
# and resumed when it was stopped; so are what an oracle finds and what routers are taught by. What is
# there with other settings than these ends it, with a line that names it. The tables are made by
# `duo compare` of all of them: RUN/routers.tsv, and by layer RUN/routers-layers.tsv.
#
#   plain       the paper's: linear, soft Gumbel-softmax, squared budget loss
#   slow        plain, at half the learning rate
#   exact       the plain routers, with the same number of big layers for every token
#   hard        plain, with straight-through choices
#   hinge, flops, lagrangian     other penalties
#   balance     every layer held to the budget on its own
#   hidden      a hidden layer of 64
#   inputs      hidden, and previous route and position as inputs
#   start       plain, that begins at the best fixed pattern of the budget
#   start-hidden, start-narrow   the same with a hidden layer of 64, or 16, and half the learning rate
#   told        hidden, told the budget: one router for all budgets
#   teacher, teacher-free        taught the oracle's routes of training text; -free: of an oracle that
#                                does not see the successor (duo oracle --goal label-free)
#   gap, gap-free                taught at each state of those routes by how much the best completion
#                                with big beats the best without
#   focal       teacher by the focal loss
#   mixture     plain, and the teacher's loss beside it
#   rounds, rounds-free          on-policy: what each own choice is worth, learn, again; from random routes on
#   small, all  modules trained along
#   dense       no routers: a model with one FFN that costs the budget, trained as the base was
#
# Settings from the environment: DUO (the program), STEPS (300) of a router, LR (1e-2), BATCH (16),
# TEACHER_WINDOWS (64) of teachers, ROUNDS (3) of on-policy labels, each for its share of STEPS and on
# ROUND_WINDOWS (128) by VALUES (same, or best), ORACLE_WINDOWS (16) and WINDOWS (256), both held-out,
# of the oracle and of the table, KEYS (further keys of every router stage), ROWS (further rows of
# duo compare, as "wide:6:1=checkpoints/wide/stage-dense.h5").
set -euo pipefail
shopt -s inherit_errexit
. "$(dirname "${BASH_SOURCE[0]}")/same_settings.sh"

run=${1%/}
read -ra budgets <<<"${2:-4}"
read -ra variants <<<"${3:-plain exact hard hinge flops lagrangian hidden inputs start start-hidden told teacher-free gap-free rounds}"
read -ra seeds <<<"${4:-1}"
duo=${DUO:-build/src/cli/duo}
steps=${STEPS:-300}
half_lr=$(awk -v lr="${LR:-1e-2}" 'BEGIN { print lr / 2 }')
rounds=${ROUNDS:-3}
folder=$(dirname "$run")
name=$(basename "$run")
base=$run/stage-duo.h5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# goal VARIANT: what its oracle goes by
goal() {
    case $1 in
    *-free) echo label-free ;;
    *) echo target ;;
    esac
}

# teacher VARIANT BUDGET RUN_NAME: the file, which is made where it is missing and the run wants it
teacher() {
    local file trained=$folder/$3/stage-router.h5
    file=$run/teacher-$(goal "$1")-$2.h5
    if [ -e "$file" ] && [ -e "$trained" ] && [ "$file" -nt "$trained" ]; then
        echo "$folder/$3: was taught by another $file, which is newer; move it away to train it anew" >&2
        return 1
    fi
    # Where it is there, the oracle sees that it is of these settings.
    if [ -e "$file" ] || ! [ -e "$trained" ]; then
        "$duo" oracle "$base" --budget "$2" --goal "$(goal "$1")" --values best --training \
            --windows "${TEACHER_WINDOWS:-64}" --output "$file" >&2
    fi
    echo "$file"
}

# fixed BUDGET: the best fixed pattern, which the oracle chose on training text, as letters
fixed() {
    sed -n "$(($1 + 1))p" <<<"$patterns" | tr '012' '\-SB' | tr -d ' '
}

# keys VARIANT BUDGET RUN_NAME: what the variant's stage adds to the plain one
keys() {
    local made # by an assignment of its own, so that a failure ends the script
    case $1 in
    teacher* | gap* | focal | mixture) made=$(teacher "$1" "$2" "$3") ;;
    start | start-hidden | start-narrow) made=$(fixed "$2") ;;
    esac
    case $1 in
    plain) ;;
    hard) echo "straight_through = true" ;;
    hinge | flops) echo "penalty = $1" ;;
    lagrangian) echo "penalty = lagrangian alpha = 1" ;;
    balance) echo "balance = 10" ;;
    hidden) echo "router_hidden = 64" ;;
    inputs) echo "router_hidden = 64 router_inputs = \"previous,position\"" ;;
    told) echo "router_hidden = 64 router_inputs = budget" ;;
    teacher | teacher-free) echo "teacher = \"$made\" alpha = 0" ;;
    gap | gap-free) echo "teacher = \"$made\" learn = gaps alpha = 0" ;;
    focal) echo "teacher = \"$made\" alpha = 0 focal = 2" ;;
    mixture) echo "teacher = \"$made\" language = 1 teach = 0.1" ;;
    slow) echo "lr = $half_lr" ;;
    start-hidden) echo "router_hidden = 64 start = \"$made\" lean = 1 lr = $half_lr" ;;
    start-narrow) echo "router_hidden = 16 start = \"$made\" lean = 1 lr = $half_lr" ;;
    start) echo "start = \"$made\" lean = 1" ;;
    small) echo "train = \"router+small\" lr = 5e-4 router_lr = ${LR:-1e-2}" ;;
    all) echo "train = all lr = 5e-4 router_lr = ${LR:-1e-2}" ;;
    *)
        echo "compare_routers: no variant $1" >&2
        return 1
        ;;
    esac
}

# stage RUN_NAME BUDGET SEED INIT STEPS KEYS: one run of one router stage
stage() {
    {
        sed '/^stage /,$d; /^name = /d; /^seed = /d; /^init = /d' "$run/recipe.conf"
        echo "name = \"$1\""
        echo "seed = $3"
        echo "init = \"$4\""
        echo "stage router { steps = $5 batch_size = ${BATCH:-16} budget = $2"
        case $6 in *" lr = "*) ;; *) echo "lr = ${LR:-1e-2}" ;; esac
        echo "val_every = 0 save_every = 0 val_windows = 64 $6 ${KEYS:-} }"
    } >"$work/router.conf"
    same_settings "$duo" "$work/router.conf" "$folder/$1"
    [ -e "$folder/$1/stage-router.h5" ] && return
    "$duo" train "$work/router.conf" --checkpoints "$folder" --auto-resume >&2
}

# dense_model RUN_NAME BUDGET SEED: the base's stages, all dense, with one FFN of the budget's FLOPs
dense_model() {
    if grep -q '^init = "."' "$run/recipe.conf"; then
        echo "compare_routers: $run began from other weights; a dense model of as much training is not made" >&2
        return 1
    fi
    awk -v name="$1" -v seed="$3" -v k="$2" '
        /^(name|seed|init) = / { next }
        /^stage / && ended { exit }
        /^stage duo / { ended = 1 }
        $1 == "n_layers" { layers = $3 }
        $1 == "d_big" { big = $3; next }
        $1 == "d_small" { printf "    d_big = %d\n", $3 + (big - $3) * k / layers + 0.5 }
        $1 == "kind" { print "    kind = dense"; next }
        $1 ~ /^p_/ { next }
        { print }
        END { printf "name = \"%s\"\nseed = %d\n", name, seed }' "$run/recipe.conf" >"$work/dense.conf"
    same_settings "$duo" "$work/dense.conf" "$folder/$1"
    [ -e "$folder/$1/stage-duo.h5" ] && return
    "$duo" train "$work/dense.conf" --checkpoints "$folder" --auto-resume >&2
}

# on_policy VARIANT BUDGET SEED RUN_NAME: each round learns what the choices of the one before it were worth
on_policy() {
    local from=$base along labels trained layers round
    layers=$(sed -n 's/^ *n_layers = //p' "$run/recipe.conf")
    along=random:$(awk -v k="$2" -v l="$layers" 'BEGIN { printf "%.9g", k / l }')
    for ((round = 1; round <= rounds; round++)); do
        trained=$4
        [ "$round" -lt "$rounds" ] && trained=$4-round$round
        labels=$folder/$4-round$round.h5
        if [ -e "$labels" ] || ! [ -e "$folder/$trained/stage-router.h5" ]; then
            "$duo" oracle "$from" --along "$along" --values "${VALUES:-same}" --budget "$2" \
                --goal "$(goal "$1")" --training --windows "${ROUND_WINDOWS:-128}" --seed "$3" \
                --output "$labels" >&2
        fi
        stage "$trained" "$2" "$3" "$from" $((steps / rounds)) \
            "teacher = \"$labels\" learn = gaps alpha = 0"
        from=$folder/$trained/stage-router.h5
        along=router
        if [ "${VALUES:-same}" = best ]; then along=router:exact:$2; fi
    done
}

# Its random patterns are no part of the table.
"$duo" oracle "$base" --compare --windows "${ORACLE_WINDOWS:-16}" --random 2 --output "$run/oracle.h5" >&2
patterns=$("$duo" inspect "$run/oracle.h5" --values /fixed/patterns)
rows=()
for seed in "${seeds[@]}"; do
    for variant in "${variants[@]}"; do
        for budget in "${budgets[@]}"; do
            trained=$name-$variant-b$budget-s$seed
            policy=router
            trained_for=$budget
            if [ "$variant" = told ]; then # one run for all
                trained=$name-$variant-s$seed
                policy=router:$budget
                trained_for=${budgets[0]}
            fi
            file=stage-router.h5
            case $variant in
            exact)
                trained=$name-plain-b$budget-s$seed
                policy=router:exact:$budget
                stage "$trained" "$budget" "$seed" "$base" "$steps" " "
                ;;
            dense)
                dense_model "$trained" "$budget" "$seed"
                file=stage-duo.h5
                policy=big
                ;;
            rounds | rounds-free) on_policy "$variant" "$budget" "$seed" "$trained" ;;
            *)
                more=$(keys "$variant" "$trained_for" "$trained")
                stage "$trained" "$trained_for" "$seed" "$base" "$steps" " $more"
                ;;
            esac
            rows+=(--row "$variant:$budget:$seed=$folder/$trained/$file@$policy")
        done
    done
done
for row in ${ROWS:-}; do rows+=(--row "$row"); done
asked=()
for budget in "${budgets[@]}"; do asked+=(--budget "$budget"); done
"$duo" compare "$base" --oracle "$run/oracle.h5" --windows "${WINDOWS:-256}" "${asked[@]}" \
    "${rows[@]}" --output "$run/routers.tsv" --by-layer "$run/routers-layers.tsv"
