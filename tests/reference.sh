#!/bin/sh
# The whole model against PyTorch in float64: losses and the gradient of every parameter, for all
# kinds of routing. Usage: reference.sh DUO MAKE_CHECKPOINT; the reference is the script that
# DUO_REFERENCE names, or reference/duo_torch.py in the folder `shared` beside the source tree.
set -u
duo=$(realpath "$1") make_checkpoint=$(realpath "$2")
python=/usr/bin/python3
reference=$(realpath -m "${DUO_REFERENCE:-$(dirname "$(realpath "$0")")/../../shared/reference/duo_torch.py}")
. "$(dirname "$0")/says.sh"
[ -f "$reference" ] || skip "no reference at $reference (set DUO_REFERENCE)"
"$python" -c 'import h5py, torch' 2>/dev/null || skip "$python has no h5py or no torch"
export OMP_NUM_THREADS=1 # tiny matrices
compared=0

model() {
    "$make_checkpoint" model.h5 "$@" || exit 1
    sizes="$*"
}

# probe OPTION...: the last model must agree with the reference, which names what does not.
probe() {
    compared=$((compared + 1))
    rm -f probe.h5
    if ! "$duo" probe model.h5 --output probe.h5 --random-tokens --gradients "$@" >out 2>&1 ||
        ! "$python" "$reference" compare probe.h5 model.h5 >out 2>&1; then
        fail "model $sizes, probe $*:"
        grep -v '^ok' out
    fi
}

model n_kv_heads=2
probe
probe --routes random:0,0.5,0.5 --rows 3 --seq-len 17 --seed 5
probe --routes random:1,0,0
probe --routes pattern:B-
probe --routes small --seq-len 1

model n_layers=3 d_model=42 n_heads=3 n_kv_heads=1 d_big=101 d_small=11 vocab_size=97 tied=0 \
    max_seq=70 modules=skip,small,big seed=7
probe --rows 2 --seq-len 70
probe --routes big --rows 1 --seq-len 33
probe --routes router --rows 3
probe --gumbel --tau 0.7 --alpha 0.5 --target-big 0.3 --target-small 0.3 --target-skip 0.4
probe --gumbel --tau 0.7 --hard --alpha 2 --target-big 0.3 --rows 3 --seq-len 19
probe --gumbel --tau 3 --alpha 0 --target-big 0.5

model n_layers=4 d_model=24 n_heads=2 n_kv_heads=2 d_big=30 d_small=50 modules=small,big seed=3
probe --gumbel --tau 0.4 --alpha 1 --target-big 0.25
probe --gumbel --hard --tau 1 --alpha 1 --target-big 0.25 --target-small 0.7 --seed 2

model n_layers=1 d_model=20 n_heads=5 n_kv_heads=5 d_big=1 d_small=1 vocab_size=3 \
    modules=skip,big seed=4
probe --gumbel --hard --tau 0.5 --alpha 1 --target-skip 0.9

# And the comparison itself must be able to fail: the same probe beside other weights.
"$make_checkpoint" model.h5 n_layers=1 d_model=20 n_heads=5 n_kv_heads=5 d_big=1 d_small=1 \
    vocab_size=3 modules=skip,big seed=5 || exit 1
"$python" "$reference" compare probe.h5 model.h5 >out 2>&1 &&
    fail "a probe agrees with a checkpoint that it does not belong to"

echo "$compared probes, $failures beyond the tolerance"
[ "$failures" = 0 ]
