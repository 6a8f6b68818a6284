#!/usr/bin/env bash
# What a router stage takes to calibrate is what --dry-run says. Usage: stage_memory.sh DUO PEAK
set -euo pipefail
duo=$(realpath "$1")
peak=$(realpath "$2")
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1
enter_scratch
make_tokens
cat text.txt text.txt text.txt text.txt >more.txt
"$duo" prepare --input more.txt --output more.h5 --vocab-size 320 2>log >&2 || fail "$(tail -1 log)"
# Routers that spend nothing from the start: the first look meets the budget.
cat >deep.conf <<CONF
name = deep
model { n_layers = 96  d_model = 8  n_heads = 2  d_big = 8  d_small = 4  max_seq = 24 }
data { tokens = "more.h5" }
stage router { steps = 2  batch_size = 8  val_every = 1  val_windows = 1  budget = 0  lean = 100  start = "$(printf 'S%.0s' {1..96})" }
CONF

# With a batch of one, best.h5 from step 1 takes more than the trainer did: another model.
cat >wide.conf <<CONF
name = wide
model { n_layers = 2  d_model = 256  n_heads = 2  d_big = 1024  d_small = 8  max_seq = 24 }
data { tokens = "more.h5" }
stage router { steps = 2  batch_size = 1  precision = bf16  val_every = 1  val_windows = 1  budget = 0  lean = 100  start = "SS"  calibrate = 8 }
CONF

# measure RECIPE KEY=VALUE WINDOWS: predicted and peak, in KiB
measure() {
    local conf=(train "$1.conf" --checkpoints "runs-$2" --set "$2")
    predicted=$("$duo" "${conf[@]}" --dry-run 2>/dev/null |
        awk '$1 == "router" { printf "%d", 1024 * $(NF - 2) }')
    "$peak" "$duo" "${conf[@]}" >log 2>&1 || fail "$(tail -1 log)"
    [ "$(grep -c "thresholds set on $3 windows" log)" = 2 ] || fail "$*: $(cat log)"
    peaked=$(tail -1 log)
}
# compare WHAT LEAST: what the last measurement is above the one before, of at least so many KiB
compare() {
    awk -v what="$1" -v least="$2" -v p=$((predicted - little)) -v m=$((peaked - lowest)) 'BEGIN {
        printf "stage_memory: %s: predicted %.1f MiB, were %.1f\n", what, p / 1024, m / 1024
        exit !(p > least && m < 1.05 * p + 3000 && m > 0.95 * p - 3000) }' || fail "not as predicted"
}
# Both take more than it takes to save afterwards.
measure deep stage.router.calibrate=3000 3000
little=$predicted lowest=$peaked
measure deep stage.router.calibrate=6000 6000
compare "3000 windows more" 50000
measure wide model.d_big=4096 8
little=$predicted lowest=$peaked
measure wide model.d_big=12288 8
compare "a wider model" 100000
