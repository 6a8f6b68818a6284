#!/usr/bin/env bash
# A run on storage that fails: at a call of open, write, fsync, rename, ... once or from then on.
# It must go on with a warning that names the file, or stop with one line and status 1; nothing is
# left behind, no checkpoint is damaged, and a resumed run ends in the bits of one without faults.
# COUNT cases from number FIRST on; together they reach every call with every error.
# Usage: faults.sh DUO INJECTOR COUNT FIRST [OPTION OF duo train]...
set -euo pipefail
duo=$1
injector=$2
count=$3
first=$4
shift 4
options=("$@")
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1
enter_scratch
make_tokens
make_recipe 2 1 6 4 1
train_whole "${options[@]}"

# inject FOLDER FAULT [OPTION]...: a run of the program under the injector
inject() {
    local folder=$1 fault=$2
    shift 2
    timeout 60 env LD_PRELOAD="$injector" ASAN_OPTIONS=verify_asan_link_order=0 \
        DUO_FAULT_UNDER="$folder/tiny" DUO_FAULT="$fault" DUO_FAULT_COUNT=calls \
        "$duo" train tiny.conf --checkpoints "$folder" "$@"
}

inject counted "" "${options[@]}" >counted.log 2>&1 || fail "under the injector: $(tail -1 counted.log)"
same_end counted
mapfile -t seen < <(awk '$2 > 0 && $1 != "held"' calls)
[ ${#seen[@]} -gt 0 ] || skip 'calls of this build cannot be intercepted'

# The k-th case: calls in turn, for each of them the places spread over the run.
choose() {
    local entry=${seen[$1 % ${#seen[@]}]} j=$(($1 / ${#seen[@]}))
    call=${entry% *}
    local places=${entry#* } kinds=("EIO 1" "ENOSPC 0" "ENOSPC 1" "EIO 0")
    case $call in write | pwrite | pread) kinds+=("SHORT 1" "SHORT 0") ;; esac
    local kind=${kinds[$(((j + j / places) % ${#kinds[@]}))]}
    times=${kind#* }
    fault="$call ${kind% *} $((1 + j * 61 % places)) $times"
}

broken() {
    echo "faults: case $k, $fault: $*: $(cat faulty.log)" >&2
    return 1
}

# Unfinished files.
leftovers() {
    find faulty/tiny \( -name '*.tmp-*' -o -name next.h5 \) 2>/dev/null | wc -l
}

run_with_fault() {
    local status=0 errors allowed=0
    inject faulty "$fault" "${options[@]}" >faulty.log 2>&1 || status=$?
    errors=$(grep '^duo: ' faulty.log | grep -vc '^duo: warning: ') || true
    [ $status -le 1 ] || broken "status $status" || return
    [ "$errors" -eq $status ] || broken "status $status with $errors lines" || return
    [ $status -eq 1 ] || same_hash faulty.log || broken "another model" || return
    ! grep '^duo: ' faulty.log | grep -qv 'faulty/tiny' || broken "names no file" || return
    [ "$(awk '$1 == "held" { print $2 }' calls)" -eq 0 ] || broken "holds removed files" || return
    if [ "$call" = unlink ]; then allowed=3; fi # what could not be removed
    [ "$(leftovers)" -le $allowed ] || broken "leaves $(ls faulty/tiny)" || return
    stopped=$((stopped + status))
}

resume_without() {
    local changes
    # shellcheck disable=SC2046
    "$duo" train tiny.conf --checkpoints faulty $(resume_flag faulty) "${options[@]}" \
        >faulty.log 2>&1 ||
        broken "is not resumed" || return
    same_hash faulty.log || broken "another model when resumed" || return
    [ "$(leftovers)" -eq 0 ] || broken "leaves $(ls faulty/tiny)" || return
    ! compgen -G 'faulty/tiny/*.damaged' >/dev/null || broken "has damaged a checkpoint" || return
    changes=$(diff <(metrics whole) <(metrics faulty) | grep '^[<>]') || true
    # Lines may be missing when the log fails for good, but none is torn.
    [ "$times" -eq 0 ] || [ -z "$changes" ] || broken "other metrics: $changes" || return
    ! grep -q '^>' <<<"$changes" || broken "torn metrics: $changes" || return
}

stopped=0 held=0
for ((k = first; k < first + count; k++)); do
    choose "$k"
    rm -rf faulty
    if run_with_fault && resume_without; then held=$((held + 1)); fi
done
echo "faults: tried $count, held $held ($stopped stopped with one line, the others went on)"
[ $held -eq "$count" ]
