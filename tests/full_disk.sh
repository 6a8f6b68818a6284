#!/usr/bin/env bash
# A disk that is full while a run is training, and has room again later; one that is full when the
# run ends. Needs root, for a small file system of its own. Usage: full_disk.sh DUO
set -euo pipefail
duo=$1
. "$(dirname "$0")/tiny_run.sh"

if [ "${2-}" != inside ]; then
    [ "$(id -u)" -eq 0 ] && unshare --mount true 2>/dev/null || skip 'mounting a file system needs root'
    exec unshare --mount "$0" "$duo" inside
fi

export OMP_NUM_THREADS=1
enter_scratch
mkdir disk
mount -t tmpfs -o size=48m tmpfs disk || skip 'no file system can be mounted'
trap 'kill -9 ${pid-} 2>/dev/null || true; umount -l "$work/disk"; leave_scratch' EXIT
make_tokens
make_recipe 20 20 700 20 10
train_whole

# await COMMAND...: until it is true of the run
await() {
    until "$@"; do
        kill -0 $pid 2>/dev/null || fail "waiting for $*: $(tail -1 disk.log)"
        sleep 0.01
    done
}

saved_beyond() {
    [ "$(latest_step disk)" -gt "$1" ]
}

# Whatever room the run has made by dropping a checkpoint is taken, too.
fill_up() {
    dd if=/dev/zero of=disk/filler bs=64k oflag=append conv=notrunc 2>/dev/null || true
    dd if=/dev/zero of=disk/filler bs=64 oflag=append conv=notrunc 2>/dev/null || true
}

full_and_said() {
    fill_up
    grep -q "$1" disk.log
}

# Full in the middle: warnings, no debris; with room again, a save, and no line is missing.
train_on disk
await saved_beyond 60
await full_and_said 'warning: step .* not saved: disk/tiny/next.h5: .*No space left .*; training goes on'
await full_and_said 'warning: disk/tiny/metrics.jsonl: cannot write: No space left'
saved=$(latest_step disk)
[ "$(find disk/tiny -name '*.tmp-*' | wc -l)" -le 1 ] || fail "leaves $(ls disk/tiny)"
rm disk/filler
await saved_beyond "$saved"
wait $pid || fail "with room again: $(tail -1 disk.log)"
same_hash disk.log || fail "another model after a full disk"
diff <(metrics whole) <(metrics disk) >/dev/null || fail "other metrics after a full disk"
[ "$(find disk/tiny -name '*.tmp-*' -o -name next.h5 | wc -l)" -eq 0 ] || fail "leaves $(ls disk/tiny)"

# Full at the end: one line, status 1, what was saved stays; with room again, --resume ends it.
rm -rf disk/tiny
train_on disk
await saved_beyond 60
while kill -0 $pid 2>/dev/null; do
    fill_up
    sleep 0.01
done
if wait $pid; then fail "ends well on a full disk"; fi
[ "$(grep '^duo: ' disk.log | grep -vc 'duo: warning: ')" -eq 1 ] || fail "$(cat disk.log)"
tail -1 disk.log | grep -q '^duo: step [0-9]* is not saved: disk/tiny/next.h5: ' || fail "$(tail -1 disk.log)"
rm disk/filler
train_on disk
wait $pid || fail "resumed: $(tail -1 disk.log)"
same_hash disk.log || fail "another model when resumed"
echo "full_disk: tried 2, held 2 (full in the middle and at the end)"
