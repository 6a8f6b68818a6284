#!/usr/bin/env bash
# tools/compare_routers.sh on a tiny model: every kind of router in one table, and again without work.
# Usage: compare_routers.sh DUO
set -uo pipefail
duo=$(realpath "$1")
script=$(realpath "$(dirname "$0")/../tools/compare_routers.sh")
. "$(dirname "$0")/tiny_run.sh"
export OMP_NUM_THREADS=1
enter_scratch
make_tokens
cat >base.conf <<'CONF'
name = base
model { n_layers = 3  d_model = 16  n_heads = 2  d_big = 40  d_small = 8  max_seq = 16 }
data { tokens = "tokens.h5" }
stage dense { steps = 2  batch_size = 4  val_windows = 4 }
stage duo { steps = 3  batch_size = 4  val_windows = 4 }
CONF
quietly train base.conf --checkpoints runs

variants="plain exact hard hinge flops lagrangian balance hidden inputs start start-hidden told teacher
    teacher-free gap gap-free focal mixture rounds rounds-free small all dense"
export DUO=$duo STEPS=4 BATCH=4 KEYS="calibrate = 4 warmup = 1" WINDOWS=6 ORACLE_WINDOWS=2
export TEACHER_WINDOWS=3 ROUND_WINDOWS=3 ROUNDS=2
"$script" runs/base "1 2" "${variants//$'\n'/ }" "1 2" >first.log 2>&1 || fail "$(tail -3 first.log)"
table=runs/base/routers.tsv
for variant in $variants; do
    for budget in 1 2; do
        [ "$(awk -F'\t' -v v="$variant" -v b=$budget '$1 == b && $2 == v { print $3 }' $table | tr '\n' ' ')" = \
            "1 2 mean of 2 " ] || fail "$variant at $budget: $(grep -v '^#' $table | cut -f -6)"
    done
done
value() { # VARIANT BUDGET SEED COLUMN
    awk -F'\t' -v v="$1" -v b="$2" -v s="$3" -v c="$4" '
        $1 == "budget" { for (i = 1; i <= NF; i++) if ($i == c) n = i }
        $1 == b && $2 == v && $3 == s { print $n }' $table
}
[ "$(value exact 1 1 big)" = 0.333333 ] || fail "exact is not: $(value exact 1 1 big)"
[ "$(value told 1 1 flops)" != "$(value told 2 1 flops)" ] || fail 'told one budget only'
for rate in $(value exact 1 1 tokens_per_s) $(value all 2 2 tokens_per_s) $(value dense 1 1 tokens_per_s); do
    awk -v r="$rate" 'BEGIN { exit !(r > 0 && r < 1e12) }' || fail "speed: $rate"
done
# Equal FLOPs but for the router's own and the rounding of a width.
awk -v d="$(value dense 2 1 flops)" -v f="$(value 'best fixed' 2 - flops | head -1)" \
    'BEGIN { exit !(d / f > 0.99 && d / f < 1.01) }' || fail "dense: $(value dense 2 1 flops)"
cmp -s <(sed '/^#/d; s/\t.*//' runs/base/routers-layers.tsv | sort -u) <(printf '0\n1\n2\n3\nbudget\n') ||
    fail "by layer: $(cut -f 1 runs/base/routers-layers.tsv | sort | uniq -c)"

# Again: nothing is trained, and the table is the same but for the speed.
without_rate() {
    awk -F'\t' -v OFS='\t' '$1 == "budget" { for (i = 1; i <= NF; i++) if ($i == "tokens_per_s") n = i }
        n { $n = "" } { print }' $table
}
touch mark
without_rate >before.tsv
"$script" runs/base "1 2" "${variants//$'\n'/ }" "1 2" >second.log 2>&1 || fail "again: $(tail -3 second.log)"
[ -z "$(find runs -name 'stage-*.h5' -newer mark)" ] || fail "trained again: $(find runs -newer mark)"
without_rate | cmp -s - before.tsv || fail 'another table'
# With other settings nothing is mixed: one line says what they are of.
refuses() { # MESSAGE VARIANT SETTING...
    local message=$1 variant=$2
    shift 2
    env "$@" "$script" runs/base 1 "$variant" 1 >other.log 2>&1 && fail "$*: $variant is taken as it is"
    grep -qxF -e "$message" other.log || fail "$*: $(cat other.log), not $message"
}
trained() { echo "runs/base-$1: was trained with other settings: $2; move it away to train it anew"; }
refuses "$(trained plain-b1-s1 'was steps = 4; is now steps = 5')" plain STEPS=5
refuses "$(trained plain-b1-s1 'was batch_size = 4; was micro_batch = 4; is now batch_size = 2; is now micro_batch = 2')" \
    exact BATCH=2
refuses "$(trained told-s1 'was lr = 0.01; is now lr = 0.02')" told LR=2e-2
refuses "$(trained hinge-b1-s1 'was calibrate = 4; is now calibrate = 5')" hinge 'KEYS=calibrate = 5 warmup = 1'
refuses 'duo: runs/base/teacher-label-free-1.h5: holds results with sequences 3, wanted is 4; give another output' \
    gap-free TEACHER_WINDOWS=4
refuses 'duo: runs/base-rounds-b1-s1-round1.h5: holds results with sequences 3, wanted is 2; give another output' \
    rounds ROUND_WINDOWS=2
touch runs/base/teacher-target-1.h5
refuses 'runs/base-teacher-b1-s1: was taught by another runs/base/teacher-target-1.h5, which is newer; move it away to train it anew' \
    teacher
rm runs/base-flops-b1-s1/recipe.conf
"$script" "$work/runs/base" 1 "flops told plain" 1 >elsewhere.log 2>&1 || fail "named otherwise: $(tail -1 elsewhere.log)"
grep -q '/runs/base-flops-b1-s1: holds no recipe.conf; taken as it is' elsewhere.log || fail "$(cat elsewhere.log)"
[ -z "$(find runs -name 'stage-*.h5' -newer mark)" ] || fail "trained again: $(find runs -newer mark)"
"$script" runs/base "2 1" told 1 >other.log 2>&1 || fail "told, other budgets first: $(tail -1 other.log)"
"$script" runs/base 1 none >none.log 2>&1 && fail 'a variant that there is not'
grep -q '^compare_routers: no variant none' none.log || fail "$(tail -1 none.log)"
echo "compare_routers: $(echo $variants | wc -w) kinds"
