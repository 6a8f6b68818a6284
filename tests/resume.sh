#!/usr/bin/env bash
# A run that is killed, stopped and resumed, on other thread counts, must end in the bits of an
# uninterrupted one: same metrics, same checkpoint. Usage: resume.sh DUO KILLS
set -euo pipefail

duo=$1
kills=$2
. "$(dirname "$0")/tiny_run.sh"

enter_scratch
make_tokens

cat >tiny.conf <<'CONF'
name = tiny
keep = 2
model { n_layers = 2  d_model = 24  n_heads = 2  n_kv_heads = 1  d_big = 40  d_small = 8  max_seq = 24 }
data { tokens = "tokens.h5" }
stage dense { steps = 30  batch_size = 5  micro_batch = 1  warmup = 5  log_every = 1  val_every = 10  save_every = 7  val_windows = 8 }
stage small { steps = 30  batch_size = 6  micro_batch = 2  warmup = 5  log_every = 1  val_every = 10  save_every = 7  val_windows = 8 }
stage duo { steps = 300  batch_size = 12  micro_batch = 2  warmup = 5  log_every = 1  val_every = 10  save_every = 7  val_windows = 8 }
stage router { steps = 200  batch_size = 6  micro_batch = 3  budget = 1  straight_through = true  penalty = lagrangian  train = "router+small"  router_hidden = 8  router_inputs = "previous,position"  warmup = 5  log_every = 1  val_every = 10  save_every = 7  val_windows = 8 }
CONF

OMP_NUM_THREADS=2 train_whole

# kill -9 at moments spread over the run, on 1, 2 and 3 threads in turn.
RANDOM=11
killed=0
for ((i = 0; i < kills; i++)); do
    OMP_NUM_THREADS=$((i % 3 + 1)) train_on killed
    sleep "0.$(printf '%03d' $((RANDOM % 250)))"
    if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); fi
    wait $pid 2>/dev/null || true
done
OMP_NUM_THREADS=2 train_on killed
wait $pid || fail "after $killed kills: $(tail -1 killed.log)"
same_end killed

# SIGTERM and SIGINT: finish the step, save, exit 0, say how to go on.
stopped=0
for signal in TERM INT TERM; do
    OMP_NUM_THREADS=2 train_on stopped
    until grep -qs 'tokens/s' stopped.log || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
    kill -$signal $pid 2>/dev/null || true
    wait $pid || fail "SIG$signal: exit status $?: $(tail -1 stopped.log)"
    if grep -q -- '--resume' stopped.log; then stopped=$((stopped + 1)); fi
done
OMP_NUM_THREADS=2 train_on stopped
wait $pid || fail "after signals: $(tail -1 stopped.log)"
same_end stopped

[ $killed -gt 0 ] && [ $stopped -gt 0 ] || fail "$killed kills, $stopped stops: too fast a machine"
echo "resume: the same bits after $killed kills and after $stopped stops"

# Another run may start from the weights of this one: the language model is the same, routers are new.
sed -n '/^model/p; /^data/p' tiny.conf >next.conf
cat >>next.conf <<'CONF'
name = next
init = "whole/tiny/stage-duo.h5"
stage router { steps = 1  batch_size = 6  budget = 1 }
CONF
"$duo" train next.conf >next.log 2>&1 || fail "init: $(tail -1 next.log)"
loss() {
    "$duo" eval "$1" --windows 4 --policy big | awk '$1 == "big" { print $2 }'
}
[ -n "$(loss whole/tiny/stage-duo.h5)" ] &&
    [ "$(loss whole/tiny/stage-duo.h5)" = "$(loss checkpoints/next)" ] || fail "init: other weights"
if "$duo" train next.conf --set name=no --set model.d_big=41 2>init.err >&2 ||
    ! grep -q "^duo: whole/tiny/stage-duo.h5: model.d_big differs from the recipe's$" init.err; then
    fail "init with another model: $(cat init.err)"
fi
