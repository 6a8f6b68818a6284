#!/usr/bin/env bash
# Damaged files. Every change of a checkpoint, a token file and a routes file is refused and named;
# and a run whose newest checkpoint is damaged puts it aside, goes on from the one before, and ends
# in the bits of an uninterrupted run. Usage: corruption.sh DUO CORRUPT CHANGES RUNS FIRST
set -euo pipefail
duo=$1 corrupt=$2 changes=$3 runs=$4 first=$5
RANDOM=$first
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1
enter_scratch
make_tokens
make_recipe 8 4 4 4 3
train_whole
quietly oracle whole/tiny --windows 1 --output routes.h5
held=0
for file in whole/tiny/latest tokens.h5 routes.h5; do
    "$corrupt" "$file" $((changes / 3)) "$first" >>corrupt.log 2>refused.log ||
        fail "$(tail -1 corrupt.log) $(head -1 refused.log)"
    held=$((held + changes / 3))
done

# damage FILE: a byte, a sector, a cut, or bytes at the end
damage() {
    local size at
    size=$(stat -c %s "$1")
    at=$(((RANDOM * 32768 + RANDOM) % size))
    cp "$1" damaged.h5 # the file may bear other names, which stay whole
    case $((RANDOM % 4)) in
    0) printf '\x5a\xa5\x5a' | dd of=damaged.h5 bs=1 seek=$at conv=notrunc status=none ;;
    1) dd if=/dev/urandom of=damaged.h5 bs=512 seek=$((at / 512)) count=1 conv=notrunc status=none ;;
    2) truncate -s $at damaged.h5 ;;
    3) head -c $((RANDOM % 512 + 1)) /dev/urandom >>damaged.h5 ;;
    esac
    cmp -s "$1" damaged.h5 && return 1
    mv damaged.h5 "$1"
}

# What is left of the run in the middle, with two checkpoints of its own.
train_on hurt
while kill -0 $pid 2>/dev/null && [ "$(latest_step hurt)" -lt 9 ]; do sleep 0.002; done
kill -TERM $pid 2>/dev/null || true
wait $pid || fail "$(tail -1 hurt.log)"
cp -r hurt middle
for ((run = 0; run < runs; run++)); do
    rm -rf hurt
    cp -r middle hurt
    newest=$(readlink hurt/tiny/latest)
    damage "hurt/tiny/$newest" || { run=$((run - 1)); continue; }
    "$duo" train tiny.conf --checkpoints hurt --resume >hurt.log 2>&1 || fail "$(tail -1 hurt.log)"
    grep -q "hurt/tiny/$newest: .*renamed to $newest.damaged" hurt.log || fail "$(cat hurt.log)"
    [ -e "hurt/tiny/$newest.damaged" ] || fail "$newest is not put aside"
    same_end hurt
done
held=$((held + runs))
echo "corruption: tried $held, held $held ($runs of them by resuming a run)"
