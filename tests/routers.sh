#!/usr/bin/env bash
# Routers through the program: trained, calibrated, told a budget, taught by an oracle. Usage:
# routers.sh DUO
set -euo pipefail

duo=$1
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=2
enter_scratch
make_tokens

base='model { n_layers = 4  d_model = 24  n_heads = 2  d_big = 40  d_small = 8  max_seq = 24 }
data { tokens = "tokens.h5" }'
each='batch_size = 8  warmup = 5  log_every = 5  val_every = 20  val_windows = 64'

# run NAME STAGE [KEY=VALUE...]: one stage from the weights of `base`
run() {
    local name=$1 stage=$2
    shift 2
    printf 'name = %s\n%s\n%s\n' "$name" "$base" "$stage" >"$name.conf"
    "$duo" train "$name.conf" "$@" >"$name.log" 2>&1 || fail "$name: $(tail -1 "$name.log")"
}
run base "stage duo { steps = 150  lr = 5e-3  $each }"
from=(--set init=checkpoints/base/stage-duo.h5)

# big FILE POLICY: share of big in percent, held-out
big() {
    "$duo" eval "$1" --policy "$2" --windows 256 >eval.log 2>&1 || fail "$1, $2: $(tail -1 eval.log)"
    awk -v policy="$2" '$1 == policy { for (i = 1; i <= NF; i++) if ($i ~ /%$/) { sub("%", "", $i); print $i; exit } }' eval.log
}
near() { # what, value, wanted, points
    awk -v a="$2" -v b="$3" -v t="$4" 'BEGIN { exit !(a != "" && a - b <= t && b - a <= t) }' ||
        fail "$1: $2%, wanted $3%"
}

# A calibrated router meets its target on text that it has not seen; any other budget likewise.
run plain "stage router { steps = 40  lr = 1e-2  budget = 1.5  calibrate = 256  $each }" "${from[@]}"
grep -q 'stage router: thresholds set on 256 windows of training text: big .* -> 37\.[45]' plain.log ||
    fail "no calibration: $(cat plain.log)"
near calibrated "$(big checkpoints/plain router)" 37.5 0.5
"$duo" calibrate checkpoints/plain --budget 3 --windows 256 --output three.h5 >/dev/null ||
    fail "calibrate failed"
near "calibrated anew" "$(big three.h5 router)" 75 0.5
[ "$(big three.h5 router:raw)" = "$(big checkpoints/plain router:raw)" ] ||
    fail "without thresholds they are one router"
for k in 0 1 3 4; do near "exactly $k" "$(big checkpoints/plain router:exact:$k)" $((25 * k)) 0; done
for key in '"soft_usage":{' '"val_usage":{' '"budget_loss":' '"calibrated_loss":' '"expected_flops":'; do
    grep -qF "$key" checkpoints/plain/metrics.jsonl || fail "metrics have no $key"
done

# share NAME KEY: the mean share of big in the last line of metrics, in percent
share() {
    tail -1 "checkpoints/$1/metrics.jsonl" | grep -o "\"$2\":{[^}]*}" | grep -o '"big":\[[^]]*' |
        cut -d'[' -f2 | tr , '\n' | awk '{ sum += $1 } END { print 100 * sum / NR }'
}
near "held out with thresholds" "$(share plain calibrated_usage)" 37.5 1
[ "$(share plain val_usage)" != "$(share plain calibrated_usage)" ] || fail "thresholds change nothing"
grep -q '^stage router: held out: big 3[678]\.' plain.log || fail "the share on held-out text: $(cat plain.log)"

# A run that is killed while it calibrates has one step to do again, and ends in the same bits.
printf 'name = late\n%s\nstage router { steps = 6  budget = 1  calibrate = 1500  %s  save_every = 0 }\n' "$base" "$each" >late.conf
OMP_NUM_THREADS=1 "$duo" train late.conf "${from[@]}" --checkpoints whole >whole.log 2>&1 || fail "late: $(tail -1 whole.log)"
# caught COMMAND: within a few tries, since a busy host may be too late for what it wants to catch
caught() {
    for _ in 1 2 3 4 5; do
        if "$1"; then return; fi
    done
    return 1
}
killed_late() {
    rm -rf killed
    "$duo" train late.conf "${from[@]}" --checkpoints killed >killed.log 2>&1 &
    until [ -e killed/late/step-00000005.h5 ] || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
    kill -9 $! 2>/dev/null && ! wait $! 2>/dev/null && ! [ -e killed/late/stage-router.h5 ]
}
caught killed_late || fail "not killed while it calibrated: $(cat killed.log)"
"$duo" train late.conf "${from[@]}" --checkpoints killed --resume >killed.log 2>&1 || fail "resumed: $(tail -1 killed.log)"
grep -q '^resuming from .*, step 5$' killed.log || fail "resumed: $(cat killed.log)"
cmp whole/late/stage-router.h5 killed/late/stage-router.h5 || fail "killed while it calibrated: another checkpoint"
diff <(sed 's/,"tokens_per_s".*//' whole/late/metrics.jsonl) <(sed 's/,"tokens_per_s".*//' killed/late/metrics.jsonl) ||
    fail "killed while it calibrated: other metrics"

# What was best before the end gets thresholds too; so it does when the run was killed before that.
# The learning rate grows until it ruins the model.
ruined="init = \"checkpoints/base/stage-duo.h5\"
keep = 9
stage router { steps = 6  batch_size = 8  warmup = 6  lr = 0.1  router_lr = 1e-6  alpha = 0  train = all  val_every = 1  val_windows = 64"
run raw "$ruined budget = 2  calibrate = 0 }"
run best "$ruined calibrate = 256  target_big = $(head -1 checkpoints/raw/metrics.jsonl | grep -o '"val_usage":{.*' |
    grep -o '"big":\[[^]]*' | head -1 | cut -d'[' -f2 | tr , '\n' | awk '{ sum += $1 } END { print sum / NR + 0.006 }') }"
step=$(sed -n 's/^best.h5, step \([1-5]\): thresholds set on 256 windows .*/\1/p' best.log)
[ -n "$step" ] || fail "best.h5 is not calibrated: $(cat best.log)"
grep -q "^best.h5, step $step: held out: big " best.log || fail "its share on held-out text: $(cat best.log)"
"$duo" inspect checkpoints/best/best.h5 >best.txt && grep -q ' /calibration/thresholds ' best.txt &&
    grep -q "; stage router, step $step\$" best.txt && grep -q ' /optimizer/m/' best.txt || fail "best.h5: $(cat best.txt)"
"$duo" inspect "checkpoints/best/step-0000000$step.h5" | grep -q ' routers small,big, not calibrated;' ||
    fail "the checkpoint of that step has changed"
cp checkpoints/best/best.h5 first.h5
ln -f "checkpoints/best/step-0000000$step.h5" checkpoints/best/best.h5
"$duo" train checkpoints/best --resume --set stage.router.lr=0.2 --set stage.router.spike_window=2 >best.log 2>&1 ||
    fail "best: $(tail -1 best.log)"
cmp checkpoints/best/best.h5 first.h5 || fail "calibrated again: another best.h5"
"$duo" train checkpoints/best --resume >best.log 2>&1 && ! grep -q thresholds best.log ||
    fail "calibrated once more: $(cat best.log)"
near "best.h5 less its step, by the last figures" \
    "$(awk -v a="$(big checkpoints/best/best.h5 router)" -v b="$(big first.h5 router:raw)" 'BEGIN { print a - b }')" 0.6 0.4

# A signal puts that off.
stopped_late() {
    rm -rf stopped
    "$duo" train best.conf --checkpoints stopped >stopped.log 2>&1 &
    until grep -q 'thresholds set' stopped.log || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
    kill -TERM $! 2>/dev/null || true
    wait $! || fail "stopped: $(tail -1 stopped.log)"
    ! grep -q '^best.h5' stopped.log
}
caught stopped_late || fail "not stopped before best.h5 was calibrated: $(cat stopped.log)"
grep -q 'stopped after step 6, saved; the same command with --resume goes on' stopped.log ||
    fail "stopped before best.h5 was calibrated: $(cat stopped.log)"
"$duo" train best.conf --checkpoints stopped --resume >stopped.log 2>&1 || fail "stopped: $(tail -1 stopped.log)"
cmp stopped/best/best.h5 first.h5 || fail "stopped before best.h5 was calibrated: another best.h5"

# A best.h5 that cannot be calibrated ends no run that is whole.
cp "checkpoints/best/step-0000000$step.h5" stopped/damaged.h5
printf damaged | dd of=stopped/damaged.h5 bs=1 seek=5000 conv=notrunc 2>/dev/null
mv stopped/damaged.h5 stopped/best/best.h5
"$duo" train best.conf --checkpoints stopped --resume >stopped.log 2>&1 || fail "damaged: $(tail -1 stopped.log)"
grep -q 'warning: best.h5 gets no thresholds: .*best.h5' stopped.log && grep -q 'all stages done' stopped.log ||
    fail "damaged best.h5: $(cat stopped.log)"

# FLOPs in place of a budget, which only sets where the penalty of others would lead.
"$duo" eval checkpoints/plain --policy router --windows 64 --json plain.jsonl >/dev/null 2>&1
run flops "stage router { steps = 40  lr = 1e-2  budget = 3  penalty = flops  calibrate = 256
    target_flops = $(grep -o '"flops_per_token":[0-9.]*' plain.jsonl | cut -d: -f2)  $each }" "${from[@]}"
near "calibrated to FLOPs" "$(big checkpoints/flops router)" "$(big checkpoints/plain router)" 1

# A multiplier climbs until the target is met.
run dual "stage router { steps = 200  lr = 1e-2  budget = 1  penalty = lagrangian  alpha = 1  $each }" "${from[@]}"
grep -q '"multiplier":{"skip":0,"small":0,"big":0\.' checkpoints/dual/metrics.jsonl ||
    fail "no multiplier in the metrics"

near "soft share under a multiplier" "$(share dual soft_usage)" 25 2

# Routers may begin at a pattern.
run begun "stage router { steps = 5  lr = 1e-6  budget = 2  calibrate = 0  start = \"BSSB\"  lean = 50  $each }" "${from[@]}"
"$duo" eval checkpoints/begun --policy router --json begun.jsonl >/dev/null 2>&1
grep -q '"big":\[1.0*,0.0*,0.0*,1.0*\]' begun.jsonl || fail "not the pattern: $(cat begun.jsonl)"

# A router that chooses nothing has collapsed, and what spends too much is no best one.
grep -qF 'routers have collapsed: every held-out token takes one module in 4 of 4 layers: 00 (big), 01 (small), 02 (small), 03 (big)' \
    begun.log || fail "no warning of collapse: $(cat begun.log)"
[ "$(grep -c collapsed begun.log)" = 1 ] && [ -e checkpoints/begun/best.h5 ] || fail "begun: $(cat begun.log)"
run dear "stage router { steps = 5  lr = 1e-6  budget = 1  calibrate = 0  start = \"BSSB\"  lean = 50  $each }" "${from[@]}"
grep -q collapsed dear.log && ! [ -e checkpoints/dear/best.h5 ] || fail "twice the budget is best: $(cat dear.log)"
grep -q collapsed plain.log && fail "a router that chooses has not collapsed: $(cat plain.log)"

# One router serves every budget.
run told "stage router { steps = 60  lr = 2e-2  router_inputs = budget  router_hidden = 8  calibrate = 256  $each }" "${from[@]}"
for k in 1 2 3; do near "told $k" "$(big checkpoints/told router:$k)" $((25 * k)) 1; done
"$duo" eval checkpoints/told --windows 4 >eval.log 2>&1 && grep -q '^router:2 ' eval.log ||
    fail "which budget is not said: $(cat eval.log)"
"$duo" generate checkpoints/told --policy router:1 --max-tokens 8 --prompt "the king" >/dev/null ||
    fail "no text with a budget"

# Oracle routes of training text teach a router.
quietly oracle checkpoints/base --budget 2 --training --windows 24 --output teacher.h5
run taught "stage router { steps = 60  lr = 2e-2  budget = 2  teacher = \"teacher.h5\"  $each }" "${from[@]}"
agreement() { grep -o '"agreement":[0-9.]*' checkpoints/taught/metrics.jsonl | cut -d: -f2 | sed -n "$1"; }
awk -v a="$(agreement 1p)" -v b="$(agreement '$p')" 'BEGIN { exit !(b > a && b > 0.55) }' ||
    fail "nothing learned: agreement $(agreement 1p), at the end $(agreement '$p')"
grep -q 'found for another model' taught.log && fail "the teacher is this model's"
run other "stage router { steps = 10  budget = 2  teacher = \"teacher.h5\"  $each }"
grep -q 'teacher.h5: its routes were found for another model' other.log || fail "no warning of a foreign teacher"
quietly oracle checkpoints/base --budget 2 --windows 4 --output held-out.h5
run leaks "stage router { steps = 10  budget = 2  teacher = \"held-out.h5\"  $each }" "${from[@]}"
grep -q 'held-out.h5: its routes are of held-out text' leaks.log || fail "no warning of a teacher that tells the test"
grep -q 'are of held-out text' taught.log && fail "the teacher's text is training text"

# What a router's own choices are worth teaches the next one.
first_loss() { grep -o '"teacher_loss":[0-9.]*' "checkpoints/$1/metrics.jsonl" | cut -d: -f2 | sed -n "$2"; }
run untaught "stage router { steps = 10  lr = 2e-2  budget = 2  teacher = \"teacher.h5\"  alpha = 0  $each }" "${from[@]}"
grep -q 'holds no values' <(printf 'name = no\n%s\nstage router { steps = 5 budget = 2 teacher = "teacher.h5" learn = gaps }\n' "$base" >no.conf
    "$duo" train no.conf "${from[@]}" 2>&1) || fail "gaps of a file without values"
quietly oracle checkpoints/untaught --budget 2 --along router:exact:2 --values best --training --windows 24 \
    --goal label-free --output own.h5
for learn in labels gaps; do
    run "own-$learn" "stage router { steps = 60  lr = 2e-2  budget = 2  teacher = \"own.h5\"  learn = $learn  alpha = 0  $each }" \
        --set init=checkpoints/untaught/stage-router.h5
    awk -v a="$(first_loss "own-$learn" 1p)" -v b="$(first_loss "own-$learn" '$p')" 'BEGIN { exit !(b < a) }' ||
        fail "$learn: nothing learned: $(first_loss "own-$learn" p)"
    grep -q 'found for another model' "own-$learn.log" && fail "the language model is the same: $(cat "own-$learn.log")"
    near "$learn calibrated" "$(big "checkpoints/own-$learn" router)" 50 2
done

# All of them in one table.
quietly oracle checkpoints/base --compare --windows 8 --fixed-windows 4 --random 3 --output held-all.h5
quietly compare checkpoints/base --oracle held-all.h5 --budget 2 --windows 32 --output table.tsv --by-layer layers.tsv \
    --row plain:2:1=checkpoints/taught/stage-router.h5 --row own:2:1=checkpoints/own-gaps/stage-router.h5 \
    --row own:2:2=checkpoints/own-labels/stage-router.h5@router:exact:2 \
    --row itself:2:1=checkpoints/base/stage-duo.h5@small
field() { awk -F'\t' -v routes="$1" -v seed="$2" -v column="$3" '
    $1 == "budget" { for (i = 1; i <= NF; i++) if ($i == column) c = i }
    $2 == routes && $3 == seed { print $c }' table.tsv; }
[ "$(field "best fixed" - sequences | tr '\n' ' ')" = "32 8 " ] || fail "sequences: $(cat table.tsv)"
[ "$(field own "mean of 2" big)" != "" ] && [ "$(field own 2 big)" = 0.5 ] || fail "seeds: $(cat table.tsv)"
[ "$(field itself 1 loss)" = "$(field all-small - loss)" ] && [ "$(field itself 1 flops)" = "$(field all-small - flops)" ] ||
    fail "one policy, two results: $(cat table.tsv)"
"$duo" eval checkpoints/taught --policy router --windows 32 --json one.jsonl >/dev/null 2>&1
awk -v a="$(grep -o '"loss":[0-9.]*' one.jsonl | cut -d: -f2)" -v b="$(field plain 1 loss)" \
    'BEGIN { exit !(a - b < 1e-4 && b - a < 1e-4) }' || fail "eval and compare differ: $(cat one.jsonl)"
awk -v o="$(field oracle - less_fixed)" -v f="$(field label-free - less_fixed)" 'BEGIN { exit !(o < f) }' ||
    fail "the oracle gains most: $(cat table.tsv)"
# A router pays for itself; layers are what their mean is of.
[ "$(field plain 1 less_fixed)" != "$(field plain 1 less_fixed_at_flops)" ] ||
    fail "a router's own FLOPs: $(cat table.tsv)"
[ "$(field itself 1 less_fixed)" != 0 ] && [ "$(field itself 1 less_fixed_at_flops)" = 0 ] ||
    fail "all-small at its FLOPs is all-small: $(cat table.tsv)"
for routes in plain random label-free; do
    awk -F'\t' -v routes="$routes" -v want="$(field "$routes" "$([ "$routes" = plain ] && echo 1 || echo -)" agreement)" '
        $2 == routes && $1 == 2 { sum += $6; n++ }
        END { off = sum / n - want; exit !(n == 4 && off < 1e-5 && off > -1e-5) }' layers.tsv ||
        fail "$routes by layer: $(cat table.tsv layers.tsv)"
done
head -1 table.tsv | grep -q '^# duo compare' || fail "no command: $(head -1 table.tsv)"

# Routers that are told a budget are told the row's.
quietly compare checkpoints/base --oracle held-all.h5 --budget 1 --windows 32 --output table.tsv \
    --row told:1:1=checkpoints/told/stage-router.h5
near "told the row's budget" "$(field told 1 big | awk '{ print 100 * $1 }')" 25 3

# Routes are held against the oracle's, which were found before there were routers.
quietly oracle checkpoints/base --budget 2 --windows 16 --output held.h5
quietly eval checkpoints/taught --policy file:held.h5 --policy router --policy small \
    --usage usage.tsv --json eval.jsonl
grep -q 'router agrees with file:held.h5 in [0-9.]*% of its choices' eval.log || fail "no agreement"
grep -q 'small agrees with file:held.h5 in 50.0% of its choices, macro-F1' eval.log ||
    fail "the oracle takes small in 2 of 4 layers"
[ "$(grep -c '"agreement":' eval.jsonl)" = 2 ] || fail "no agreement in the JSON"
[ "$(wc -l <usage.tsv)" = $((1 + 3 * 4 * 24)) ] || fail "usage by layer and position: $(wc -l <usage.tsv)"
awk -F'\t' '$1 == "small" && $5 != 1 { exit 1 }' usage.tsv || fail "small is not small everywhere"

says 1 'policy router:2: the model'"'"'s routers are not told a budget' eval checkpoints/plain --policy router:2
says 1 "policy router:exact:5: '5' is no number of big layers, 0..4" eval checkpoints/plain --policy router:exact:5
says 1 'has no routers to calibrate' calibrate checkpoints/base --budget 2 --output x.h5
says 2 '--budget or --target-MODULE is missing' calibrate checkpoints/plain --output x.h5
says 2 '--output is missing' calibrate checkpoints/plain --budget 2
says 2 "--row: 'plain=x' is not NAME:BUDGET:SEED=CHECKPOINT[@POLICY]" \
    compare checkpoints/base --oracle none.h5 --budget 2 --row plain=x
says 2 '--row: plain:2:1 is given twice' compare checkpoints/base --oracle held-all.h5 --budget 2 \
    --row plain:2:1=checkpoints/plain --row plain:2:01=checkpoints/taught
says 2 "--row: random:2:7=checkpoints/plain: the table has a row 'random' of its own" \
    compare checkpoints/base --oracle held-all.h5 --budget 2 --row random:2:7=checkpoints/plain
says 2 '--output and --by-layer name one file' \
    compare checkpoints/base --oracle held-all.h5 --budget 2 --output one.tsv --by-layer one.tsv
says 1 'own.h5: ' compare checkpoints/base --oracle own.h5 --budget 2
