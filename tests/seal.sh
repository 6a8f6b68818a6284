#!/usr/bin/env bash
# HDF5 files with changed bits, bytes and sectors, cut and lengthened: `duo seal` takes one in, and
# then its copy verifies, or refuses it in one line with status 1; it never crashes or hangs, and
# leaves nothing half done. The links, layouts and types that it refuses are in store_h5py.sh.
# COUNT cases from number FIRST on.
# Usage: seal.sh DUO CORRUPT COUNT FIRST
set -euo pipefail
duo=$1 corrupt=$2 count=$3 first=$4
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0
enter_scratch
make_tokens
head -40 text.txt >little.txt
quietly prepare --input little.txt --output ours.h5 --tokenizer tokens.h5
seeds=(ours.h5)
# In h5py's own formats: the oldest, whose metadata has no checksums, and the newest; with chunks,
# filters, groups of many members and texts of any length.
python=${PYTHON:-/usr/bin/python3}
if "$python" - 2>/dev/null <<'END'; then
import h5py, numpy as np
for name, version in ("old", "earliest"), ("new", "latest"):
    with h5py.File(name + ".h5", "w", libver=version) as f:
        f.attrs["kind"] = "routes"
        f.attrs["text"] = "of any length"
        for i in range(12):
            f[f"policies/p{i}/routes"] = np.arange(60, dtype="u1").reshape(3, 4, 5) % 3
        f.create_dataset("packed", data=np.arange(4000, dtype="f4"), chunks=(64,),
                         compression="gzip", shuffle=True, fletcher32=True, maxshape=(None,))
        f["packed"].attrs["scale"] = 0.5
END
    seeds+=(old.h5 new.h5)
fi
for seed in "${seeds[@]}"; do
    "$duo" seal "$seed" out.h5 >out.log 2>err.log || fail "$seed as it is: $(tail -1 err.log)"
    rm out.h5
done

held=0 taken=0 fenced=0
for ((k = first; k < first + count; k++)); do
    status=0 complaint=''
    "$corrupt" "${seeds[$((k % ${#seeds[@]}))]}" $((k % 4 + 1)) "$k" changed.h5 || fail "case $k"
    timeout 120 "$duo" seal changed.h5 out.h5 >out.log 2>err.log || status=$?
    if [ $status -eq 0 ]; then
        taken=$((taken + 1))
        # What is in it may be nonsense, but it is whole.
        { "$duo" inspect out.h5 2>&1 || true; } | grep -q ', verified, hash' || complaint="a copy that fails"
    else
        [ $status -eq 1 ] || complaint="status $status"
        [ "$(wc -l <err.log)" -eq 1 ] && grep -q '^duo: changed.h5: ' err.log ||
            complaint="status $status: $(cat err.log)"
        [ ! -e out.h5 ] || complaint="refused, and a copy"
        if grep -q 'crashed on it\|within the limits\|gave up' err.log; then
            fenced=$((fenced + 1))
        fi
    fi
    [ -z "$(find . -name '*.tmp-*')" ] || complaint="leaves $(find . -name '*.tmp-*')"
    if [ -z "$complaint" ]; then held=$((held + 1)); else
        echo "seal: case $k: $complaint" >&2
    fi
    rm -f out.h5 ./*.tmp-*
done
echo "seal: tried $count, held $held ($taken taken in; in $fenced the library crashed or ran on, \
behind the fence; ${#seeds[@]} files)"
[ $held -eq "$count" ]
