#!/usr/bin/env bash
# Record what a training run and its continuation do to their folder, then lose power at any moment
# of it: what was acknowledged is there. Without either kind of fsync it is not, which shows that
# the test can fail. Usage: power_loss.sh DUO RECORDER POWER_LOSS COUNT FIRST
set -euo pipefail
duo=$1
recorder=$2
power_loss=$3
count=$4
first=$5
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1
enter_scratch
make_tokens
make_recipe 2 1 8 6 2

# record [OPTION]...: another part of the run
record() {
    env LD_PRELOAD="$recorder" ASAN_OPTIONS=verify_asan_link_order=0 DUO_RECORD="$work/recording" \
        DUO_RECORD_UNDER=recorded/tiny \
        "$duo" train tiny.conf --checkpoints recorded "$@" >recorded.log 2>&1 ||
        fail "recording: $(tail -1 recorded.log)"
}
record --set stage.router.steps=2
record --resume
[ -s recording ] || skip 'calls of this build cannot be intercepted'

# lose NAME COUNT [SWITCH]
lose() {
    mkdir "$1"
    "$power_loss" recording "$1" "$2" "$first" "${@:3}" >"$1.log" 2>&1
}
lose all "$count" || fail "$(tail -5 all.log)"
for switch in file folder; do
    if lose $switch 200 --without-$switch-sync; then fail "nothing is lost without $switch sync"; fi
    grep -q '^power_loss: tried' $switch.log || fail "$(tail -1 $switch.log)"
    echo "without fsync of the $switch: $(tail -1 $switch.log)"
done
cat all.log
