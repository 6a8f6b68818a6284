#!/usr/bin/env bash
# While a run is training: a second one on its folder is refused in one line that names the holder,
# readers, h5py among them where it is installed, always find a whole file behind `latest`, `best.h5`
# and the folder; a killed run leaves no lock. Usage: two_at_once.sh DUO ROUNDS
set -euo pipefail
duo=$1
rounds=$2
. "$(dirname "$0")/tiny_run.sh"

enter_scratch
make_tokens
make_recipe 5 5 4000 1 1 # a save after every step
export OMP_NUM_THREADS=1

begin() {
    train_on busy
    trap 'kill -9 $pid 2>/dev/null || true; leave_scratch' EXIT
    until [ "$(cat busy/tiny/lock 2>/dev/null)" = $pid ] && [ -e busy/tiny/best.h5 ]; do
        kill -0 $pid 2>/dev/null || fail "training: $(tail -1 busy.log)"
        sleep 0.01
    done
}

still_training() {
    kill -0 $pid 2>/dev/null || fail "the run ended too early: $(tail -1 busy.log)"
}

second() {
    local status=0 expected="duo: busy/tiny: another duo train, process $pid, is writing to this run"
    "$duo" train tiny.conf --checkpoints busy "$@" >second.log 2>&1 || status=$?
    [ $status -eq 1 ] && [ "$(cat second.log)" = "$expected" ] ||
        fail "a second run: status $status: $(tail -1 second.log)"
}

# Other programs read whole files too, again and again, until the file `enough` is there.
python=${PYTHON:-/usr/bin/python3} others=0
read_with_h5py() {
    "$python" - >h5py.log 2>&1 <<'END'
import os, h5py
reads = 0
def read(name, item):
    if isinstance(item, h5py.Dataset):
        item[()].sum()
# HDF5 opens a name twice, and says so when it has moved to the next file in between.
moved = "st_ino or st_dev fields changed", "No such file"
def open_now(path):
    for attempt in range(100):
        try:
            return h5py.File(path)
        except OSError as error:
            if not any(text in str(error) for text in moved):
                raise
    raise OSError(f"{path} cannot be caught")
while not os.path.exists("enough") or reads == 0:
    for path in "busy/tiny/latest", "busy/tiny/best.h5":
        with open_now(path) as file:
            assert file["train"].attrs["step"] > 0
            file.visititems(read)
        reads += 1
print(reads)
END
}

refused=0 reads=0
begin
if "$python" -c 'import h5py' 2>/dev/null; then
    read_with_h5py &
    others=$!
fi
for ((i = 0; i < rounds; i++)); do
    second --resume
    second
    refused=$((refused + 2))
    for file in busy/tiny/latest busy/tiny/best.h5 busy/tiny; do
        [ $file = busy/tiny ] && reader=(eval --windows 1) || reader=(inspect)
        "$duo" "${reader[@]}" $file >reader.log 2>&1 || fail "${reader[0]} $file: $(tail -1 reader.log)"
        reads=$((reads + 1))
    done
    still_training
    if [ $((i % 5)) -eq 4 ]; then
        kill -9 $pid
        wait $pid 2>/dev/null || true
        begin
    fi
done
touch enough
if [ $others -ne 0 ]; then
    wait $others || fail "h5py: $(tail -3 h5py.log)"
    reads=$((reads + $(tail -1 h5py.log)))
fi
still_training
kill -TERM $pid
wait $pid || fail "stopping: $(tail -1 busy.log)"
echo "two_at_once: tried $((refused + reads)), held $((refused + reads)) ($refused second runs refused, $reads reads)"
