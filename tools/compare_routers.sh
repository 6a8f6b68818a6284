#!/usr/bin/env bash
# Routers of several kinds on one trained model, at several budgets, in one table.
#
#   tools/compare_routers.sh RUN [BUDGETS [VARIANTS [SEEDS]]]
#
# RUN is a run folder with a stage-duo.h5 and a recipe.conf, as checkpoints/paper-mini. Each router is
# a run of its own, RUN-VARIANT-bBUDGET-sSEED beside it, which is not trained again when it is there,
# and resumed when it was stopped.
# The table goes to RUN/routers.tsv. Settings from the environment: DUO (the program), STEPS (300),
# LR (1e-2), BATCH (16), WINDOWS (held-out, 64), TEACHER_WINDOWS (64), KEYS (further keys of every
# router stage).
#
#   plain       linear, soft Gumbel-softmax, squared budget loss
#   hard        the same with straight-through choices
#   hinge, flops, lagrangian     other penalties
#   balance     every layer held to the budget on its own
#   hidden      a hidden layer of 64
#   inputs      hidden, and previous route and position as inputs
#   told        hidden, told the budget: one router for all budgets
#   teacher     taught by the oracle's routes of training text
#   focal       the same by the focal loss
#   mixture     plain, and the teacher's loss beside it
#   small, all  modules trained along
set -euo pipefail

run=${1%/}
budgets=${2:-4}
variants=${3:-plain hard hinge flops lagrangian hidden inputs told teacher mixture}
seeds=${4:-1}
duo=${DUO:-build/src/cli/duo}
folder=$(dirname "$run")
name=$(basename "$run")
table=$run/routers.tsv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# keys VARIANT BUDGET: what the variant's stage adds to the plain one
keys() {
    local teacher="teacher = \"$run/teacher-$2.h5\""
    case $1 in
    plain) ;;
    hard) echo "straight_through = true" ;;
    hinge | flops) echo "penalty = $1" ;;
    lagrangian) echo "penalty = lagrangian alpha = 1" ;;
    balance) echo "balance = 10" ;;
    hidden) echo "router_hidden = 64" ;;
    inputs) echo "router_hidden = 64 router_inputs = \"previous,position\"" ;;
    told) echo "router_hidden = 64 router_inputs = budget" ;;
    teacher) echo "$teacher alpha = 0" ;;
    focal) echo "$teacher alpha = 0 focal = 2" ;;
    mixture) echo "$teacher language = 1 teach = 0.1" ;;
    small) echo "train = \"router+small\" lr = 5e-4 router_lr = ${LR:-1e-2}" ;;
    all) echo "train = all lr = 5e-4 router_lr = ${LR:-1e-2}" ;;
    *)
        echo "compare_routers: no variant $1" >&2
        return 1
        ;;
    esac
}

# train VARIANT BUDGET SEED RUN_NAME
train() {
    local more
    more=$(keys "$1" "$2")
    case $more in *teacher*)
        [ -e "$run/teacher-$2.h5" ] ||
            "$duo" oracle "$run/stage-duo.h5" --budget "$2" --training \
                --windows "${TEACHER_WINDOWS:-64}" --output "$run/teacher-$2.h5" >&2
        ;;
    esac
    {
        sed '/^stage /,$d; /^name = /d; /^seed = /d; /^init = /d' "$run/recipe.conf"
        echo "name = \"$4\""
        echo "seed = $3"
        echo "init = \"$run/stage-duo.h5\""
        echo "stage router { steps = ${STEPS:-300} batch_size = ${BATCH:-16} budget = $2"
        case $more in *" lr = "*) ;; *) echo "lr = ${LR:-1e-2}" ;; esac
        echo "val_every = 0 save_every = 0 val_windows = ${WINDOWS:-64} $more ${KEYS:-} }"
    } >"$work/router.conf"
    local resume=()
    compgen -G "$folder/$4/step-*.h5" >/dev/null && resume=(--resume)
    "$duo" train "$work/router.conf" --checkpoints "$folder" "${resume[@]}" >&2
}

# rows VARIANT BUDGET SEED CHECKPOINT POLICY...: lines of the table
rows() {
    local variant=$1 budget=$2 seed=$3 checkpoint=$4 policy options=()
    shift 4
    for policy in "$@"; do options+=(--policy "$policy"); done
    "$duo" eval "$checkpoint" "${options[@]}" --windows "${WINDOWS:-64}" \
        --json "$work/eval.jsonl" >&2
    awk -v OFS='\t' -v variant="$variant" -v budget="$budget" -v seed="$seed" '
        function value(key) { # of a number or a text
            if (!match($0, "\"" key "\":[^,}]*")) return "none"
            text = substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
            gsub(/"/, "", text)
            return text
        }
        function big(  shares, n, i, sum) {
            match($0, /"big":\[[^]]*/)
            n = split(substr($0, RSTART + 7, RLENGTH - 7), shares, ",")
            for (i = 1; i <= n; i++) sum += shares[i]
            return sprintf("%.4f", sum / n)
        }
        {
            print variant, budget, seed, value("policy"), value("loss"), value("loss_error"), \
                value("perplexity"), big(), value("flops_per_token"), value("tokens_per_s")
        }' "$work/eval.jsonl"
}

columns='variant\tbudget\tseed\tpolicy\tloss\tloss_error\tperplexity\tbig\tflops\ttokens_per_s'
printf "$columns\n" >"$table.new"
rows none none none "$run/stage-duo.h5" small random:0.5 big >>"$table.new"
for seed in $seeds; do
    for variant in $variants; do
        for budget in $budgets; do
            policies=(router router:raw "router:exact:$budget")
            trained=$name-$variant-b$budget-s$seed
            if [ "$variant" = told ]; then # one run for all
                policies=("router:$budget" "router:raw:$budget" "router:exact:$budget")
                trained=$name-$variant-s$seed
            fi
            [ -e "$folder/$trained/stage-router.h5" ] ||
                train "$variant" "$([ "$variant" = told ] && echo "${budgets%% *}" || echo "$budget")" \
                    "$seed" "$trained"
            rows "$variant" "$budget" "$seed" "$folder/$trained/stage-router.h5" \
                "${policies[@]}" >>"$table.new"
        done
    done
done
mv "$table.new" "$table"
if command -v column >/dev/null; then column -t -s $'\t' "$table"; else cat "$table"; fi
