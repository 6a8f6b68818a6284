# shellcheck shell=bash
# Sourced by the scripts that train a tiny model again and again: a folder of its own, tokens, a
# recipe, and what a run must end in. $duo is the program.

: "${duo:?the program to run}"
export OMP_WAIT_POLICY=passive # many short runs: threads that wait must not keep a core busy

. "$(dirname "$0")/common.sh"

# In memory where there is room: what a kill leaves does not depend on the disk.
enter_scratch() {
    local place=${TMPDIR:-/tmp}
    if [ -w /dev/shm ] && [ "$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')" -gt 500000 ]; then
        place=/dev/shm
    fi
    enter_folder "$place"
    trap 'leave_scratch' EXIT
    # HDF5 does not free what it held for a file that could not be written.
    echo 'leak:libhdf5' >suppressions
    export LSAN_OPTIONS=suppressions=$work/suppressions:print_suppressions=0
}

leave_scratch() {
    jobs -p | xargs -r kill -9 2>/dev/null || true # a run that is left would make its folder again
    wait
    leave_folder
}

# quietly COMMAND ARGUMENT...: a command of the program must end well; what it prints goes to COMMAND.log
quietly() {
    "$duo" "$@" >"$1.log" 2>&1 || fail "$1: $(tail -1 "$1.log")"
}

# says STATUS TEXT ARGUMENT...: what a command of the program prints holds the text
says() {
    local status=$1 text=$2 got=0
    shift 2
    "$duo" "$@" >out.log 2>err.log || got=$?
    [ $got -eq "$status" ] || fail "$*: status $got: $(cat err.log)"
    grep -qF -e "$text" err.log out.log || fail "$*: no '$text' in: $(cat out.log err.log)"
}

# make_recipe DENSE SMALL DUO ROUTER SAVE_EVERY: steps of each stage
make_recipe() {
    local each="micro_batch = 2  warmup = 1  log_every = 1  val_windows = 8  save_every = $5"
    cat >tiny.conf <<CONF
name = tiny
keep = 2
model { n_layers = 2  d_model = 32  n_heads = 2  n_kv_heads = 1  d_big = 40  d_small = 8  max_seq = 24 }
data { tokens = "tokens.h5" }
stage dense { steps = $1  batch_size = 4  val_every = 10  $each }
stage small { steps = $2  batch_size = 6  val_every = 10  $each }
stage duo { steps = $3  batch_size = 12  val_every = 10  $each }
stage router { steps = $4  batch_size = 6  budget = 1  straight_through = true  val_every = 10  $each }
CONF
}

# train_whole [OPTION]...: what all others must end in, the run whole/tiny
train_whole() {
    "$duo" train tiny.conf --checkpoints whole "$@" >whole.log 2>&1 ||
        fail "uninterrupted: $(tail -1 whole.log)"
}

# Only what depends on the clock may differ.
metrics() {
    sed 's/,"tokens_per_s".*//' "$1/tiny/metrics.jsonl"
}

same_hash() {
    [ "$(grep -o 'model hash.*' whole.log)" = "$(grep -o 'model hash.*' "$1")" ]
}

# same_end FOLDER: with FOLDER.log beside it
same_end() {
    cmp "whole/tiny/stage-router.h5" "$1/tiny/stage-router.h5" || fail "$1: another checkpoint"
    diff <(metrics whole) <(metrics "$1") >/dev/null || fail "$1: other metrics"
    same_hash "$1.log" || fail "$1: another model hash"
}

# The step that `latest` points to, 0 when there is none.
latest_step() {
    local target
    target=$(readlink "$1/tiny/latest" 2>/dev/null) || target=step-00000000.h5
    target=${target#step-}
    echo $((10#${target%.h5}))
}

# train_on FOLDER: in the background, from where it stands; $pid is the process. Who waits for a line of
# FOLDER.log must not find that of the run before.
# shellcheck disable=SC2034,SC2046
train_on() {
    rm -f "$1.log"
    "$duo" train tiny.conf --checkpoints "$1" $(resume_flag "$1") >"$1.log" 2>&1 &
    pid=$!
}

# --resume when there is a checkpoint to resume from
resume_flag() {
    if compgen -G "$1/tiny/step-*.h5" >/dev/null; then echo --resume; fi
}
