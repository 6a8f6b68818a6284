#!/usr/bin/env bash
# Weights that grow without bounds, by a weight decay of -99 per step: bad steps are skipped and
# counted and never saved; too many end the run, or it goes back to the last checkpoint with a lower
# learning rate, and ends in the same bits when it is stopped in between. Usage: bad_numbers.sh DUO
set -euo pipefail
duo=$1
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=2
enter_scratch
make_tokens
make_recipe 60 1 1 1 4
sed -i '/^stage [sdr][mu]/d; /^stage router/d' tiny.conf
cat >wild.txt <<'SET'
stage.dense.lr=10
stage.dense.weight_decay=10
stage.dense.clip=0
stage.dense.schedule=constant
SET
mapfile -t wild < <(sed 's/^/--set\n/' wild.txt)

tried=0
check() {
    tried=$((tried + 1))
    "$@" || fail "check $tried: $*: $(tail -qn 2 ./*.log)"
}
refused() {
    local status=0
    "$@" || status=$?
    [ $status -eq 1 ]
}

# Without a way back: five warnings, one line, status 1.
stops() { "$duo" train tiny.conf --checkpoints "$@" >"$1.log" 2>&1; }
check refused stops stop "${wild[@]}"
check grep -q 'not finite; 6 steps in a row$' stop.log
check test "$(grep -c 'not finite; the step is skipped$' stop.log)" -eq 5
check test "$(grep -c '"bad":' stop/tiny/metrics.jsonl)" -eq 5
check grep -q '"bad":"[a-z].*"skipped":5' stop/tiny/metrics.jsonl
# What was saved is finite, or it could not be read; and it leads to the same end.
check refused stops stop "${wild[@]}" --resume
check grep -q 'resuming from' stop.log
check grep -q 'not finite; 6 steps in a row$' stop.log
check refused stops none "${wild[@]}" --set stage.dense.bad_steps=0
check test "$(grep -c 'the step is skipped' none.log)" -eq 0
check refused stops anomaly "${wild[@]}" --detect-anomaly
check grep -Eq ': (layer [01], |final norm|embedding|logits|loss)' anomaly.log

# Routers under a multiplier likewise.
sed '/^stage dense/d' tiny.conf >router.conf
echo 'stage duo { steps = 1  batch_size = 4 }
stage router { steps = 60  batch_size = 4  budget = 1  penalty = lagrangian  log_every = 1 }' >>router.conf
routers() { "$duo" train router.conf --checkpoints router "${@//dense/router}" >router.log 2>&1; }
check refused routers "${wild[@]}"
check grep -q 'stage router, step .* not finite; 6 steps in a row$' router.log
check test "$(grep -c '"bad":' router/tiny/metrics.jsonl)" -eq 5
check refused routers "${wild[@]}" --resume
check grep -q 'not finite; 6 steps in a row$' router.log

# With one: it ends, and the same way when it is stopped while numbers are bad.
wild+=(--set stage.dense.rollback_lr=0.01)
check stops back "${wild[@]}"
check grep -q 'back to the last checkpoint with 0.01 times the learning rate' back.log
check grep -q '"rollbacks":1' back/tiny/metrics.jsonl
"$duo" train tiny.conf --checkpoints stopped "${wild[@]}" >stopped.log 2>&1 &
pid=$!
while kill -0 $pid 2>/dev/null && ! grep -q 'skipped' stopped.log; do sleep 0.002; done
kill -TERM $pid 2>/dev/null || true
check wait $pid
if ! grep -q 'all stages done' stopped.log; then
    check test -e stopped/tiny/latest
    check "$duo" train tiny.conf --checkpoints stopped "${wild[@]}" --resume >stopped.log 2>&1
fi
check cmp back/tiny/stage-dense.h5 stopped/tiny/stage-dense.h5
echo "bad_numbers: tried $tried, held $tried (checks)"
