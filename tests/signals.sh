#!/usr/bin/env bash
# SIGTERM and SIGINT at random moments of a run: at most the step that is running is finished, the
# state is saved, the exit status is 0, and the resumed run ends in the bits of an uninterrupted
# one. The run is halted while its step is looked up. Usage: signals.sh DUO SIGNALS SEED
set -euo pipefail
duo=$1
signals=$2
RANDOM=$3
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=2
enter_scratch
make_tokens
make_recipe 40 40 240 120 50
train_whole

# The last step that has come to its line of metrics.
logged_step() {
    tail -1 stopped/tiny/metrics.jsonl 2>/dev/null | sed -n 's/^{"step":\([0-9]*\),.*/\1/p'
}

# Once the first step of this process is logged, signals are caught.
await_step() {
    local from=$1 now
    while kill -0 $pid 2>/dev/null; do
        now=$(logged_step)
        [ "${now:-0}" -le "$from" ] || return 0
        sleep 0.005
    done
    return 1
}

sent=0 ended=0
while [ $sent -lt "$signals" ]; do
    before=$(latest_step stopped)
    train_on stopped
    if await_step "$before"; then
        sleep "0.0$((RANDOM % 60 + 10))"
        kill -STOP $pid 2>/dev/null || true
        step=$(logged_step)
        signal=$([ $((RANDOM % 2)) -eq 0 ] && echo TERM || echo INT)
        kill -$signal $pid 2>/dev/null || true
        kill -CONT $pid 2>/dev/null || true
    fi
    wait $pid || fail "SIG$signal: status $?: $(tail -1 stopped.log)"
    if grep -q 'all stages done' stopped.log; then
        same_end stopped
        ended=$((ended + 1))
        rm -rf stopped
        continue
    fi
    sent=$((sent + 1))
    saved=$(latest_step stopped)
    grep -q "stopped after step $saved, saved" stopped.log || fail "$(tail -1 stopped.log)"
    [ "$saved" -ge "$step" ] && [ "$saved" -le $((step + 1)) ] ||
        fail "SIG$signal in step $((step + 1)): saved at step $saved"
done
train_on stopped
wait $pid || fail "after $sent signals: $(tail -1 stopped.log)"
same_end stopped
echo "signals: tried $sent, held $sent ($((ended + 1)) runs ended in the same bits)"
