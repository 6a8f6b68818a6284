#!/usr/bin/env bash
# The same bits: every stage, with gradients accumulated over micro-batches, on 1, 2, 3 and 4
# threads, in one go and stopped at random steps and resumed on another number of threads. All
# checkpoints that end a stage are the same bytes, and the metrics the same lines.
# Usage: determinism.sh DUO ROUNDS SEED
set -euo pipefail
duo=$1 rounds=$2
RANDOM=$3
. "$(dirname "$0")/tiny_run.sh"

enter_scratch
make_tokens
make_recipe 50 50 50 50 7
cat >>tiny.conf <<'CONF'
stage more { kind = router  steps = 50  batch_size = 6  micro_batch = 1  budget = 1  penalty = lagrangian  train = "router+small"  router_hidden = 8  router_inputs = "previous,position"  calibrate = 16  warmup = 5  log_every = 1  val_windows = 8  val_every = 10  save_every = 7 }
stage told { kind = router  steps = 50  batch_size = 6  micro_batch = 2  router_inputs = "budget"  budget = 1  budget_max = 2  calibrate = 8  warmup = 5  log_every = 1  val_windows = 8  save_every = 7 }
stage taught { kind = router  steps = 50  batch_size = 6  micro_batch = 2  budget = 1  teacher = "teacher.h5"  learn = gaps  language = 0.5  router_hidden = 4  balance = 0.1  z_loss = 0.01  calibrate = 8  warmup = 5  log_every = 1  val_windows = 8  save_every = 7 }
stage whole { kind = router  steps = 50  batch_size = 6  micro_batch = 2  budget = 1  train = "all"  precision = bf16  calibrate = 8  warmup = 5  log_every = 1  val_windows = 8  save_every = 7 }
CONF
sed -i 's/^stage dense {/stage dense { spike_window = 8  spike_sigma = 1 /' tiny.conf # noise is enough
stages=(dense small duo router more told taught whole)
sed '/^stage small/,$d' tiny.conf >first.conf
quietly train first.conf --checkpoints first
quietly oracle first/tiny --budget 1 --values best --training --windows 24 --output teacher.h5
tried=0

# compare FOLDER: with FOLDER.log beside it
compare() {
    local stage
    for stage in "${stages[@]}"; do
        cmp "whole/tiny/stage-$stage.h5" "$1/tiny/stage-$stage.h5" || fail "$1: another $stage"
        tried=$((tried + 1))
    done
    diff <(metrics whole) <(metrics "$1") >/dev/null || fail "$1: other metrics"
    same_hash "$1.log" || fail "$1: another model hash"
}

OMP_NUM_THREADS=1 train_whole
grep -q '"spike":' whole/tiny/metrics.jsonl || fail 'no step stands out of the window'
for threads in 2 3 4; do
    OMP_NUM_THREADS=$threads "$duo" train tiny.conf --checkpoints "on$threads" \
        >"on$threads.log" 2>&1 || fail "$threads threads: $(tail -1 "on$threads.log")"
    compare "on$threads"
    rm -rf "on$threads"
done

# The last step in the metrics of the stopped run.
step_of() {
    { tail -1 stopped/tiny/metrics.jsonl 2>/dev/null || true; } | sed 's/{"step":\([0-9]*\).*/\1/'
}

stops=0
for ((round = 0; round < rounds; round++)); do
    rm -rf stopped
    for ((i = 0; i <= ${#stages[@]}; i++)); do
        OMP_NUM_THREADS=$(((round + i) % 4 + 1)) train_on stopped
        if [ $i -lt ${#stages[@]} ]; then # somewhere in stage i, or a little behind it
            target=$((50 * i + RANDOM % 48 + 1))
            until [ "$(step_of)0" -ge ${target}0 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
            if kill -TERM $pid 2>/dev/null; then stops=$((stops + 1)); fi
        fi
        status=0
        wait $pid || status=$?
        # 143: the signal came before the program had its handler.
        [ $status -eq 0 ] || { [ $status -eq 143 ] && [ ! -s stopped.log ]; } ||
            fail "stopped: $(tail -1 stopped.log)"
    done
    compare stopped
done
echo "determinism: tried $tried, held $tried (checkpoints on 1 to 4 threads, $stops stops)"
[ "$rounds" -eq 0 ] || [ $stops -gt 0 ] || fail "no stop met a run: too fast a machine"
