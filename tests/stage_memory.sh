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
stage router { steps = 2  batch_size = 8  val_windows = 1  budget = 0  lean = 100  start = "$(printf 'S%.0s' {1..96})" }
CONF

# measure WINDOWS: predicted and peak, in KiB
measure() {
    local conf=(train deep.conf --checkpoints "runs-$1" --set "stage.router.calibrate=$1")
    predicted=$("$duo" "${conf[@]}" --dry-run 2>/dev/null |
        awk '$1 == "router" { printf "%d", 1024 * $(NF - 2) }')
    "$peak" "$duo" "${conf[@]}" >log 2>&1 || fail "$(tail -1 log)"
    grep -q "thresholds set on $1 windows" log || fail "$1 windows: $(cat log)"
    peaked=$(tail -1 log)
}
# Both take more than it takes to save afterwards.
measure 3000
little=$predicted lowest=$peaked
measure 6000
awk -v p=$((predicted - little)) -v m=$((peaked - lowest)) 'BEGIN {
    printf "stage_memory: 3000 windows more: predicted %.1f MiB, were %.1f\n", p / 1024, m / 1024
    exit !(p > 50000 && m < 1.05 * p + 3000 && m > 0.95 * p - 3000) }' || fail "not as predicted"
