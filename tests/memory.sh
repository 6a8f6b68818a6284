#!/usr/bin/env bash
# Memory that runs out: the n-th call that allocates fails, or all from the n-th on, in every
# command. It must go on and give what it gives otherwise, or stop with one line and status 1; no
# half file, no temporary file and no block of ours that is not freed is left.
# COUNT cases from number FIRST on; together they reach every n of every command both ways.
# Usage: memory.sh DUO INJECTOR COUNT FIRST
set -euo pipefail
duo=$1 injector=$2 count=$3 first=$4
. "$(dirname "$0")/tiny_run.sh"
. "$(dirname "$0")/every_command.sh"
if [[ $(ldd "$duo") == *lib?san.so* || $(ldd "$duo") == *libubsan.so* ]]; then
    skip 'a sanitizer has a malloc of its own'
fi

export OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0
# They do not outlive a malloc that fails, and are not called before there was room enough.
spare="libconfuse libhdf5 libsentencepiece libprotobuf libstdc++ libomp"
enter_scratch
make_inputs

# inject FAULT: the command under the injector
inject() {
    rm -f counts
    timeout 60 env LD_PRELOAD="$injector" DUO_MEMORY="$1" DUO_MEMORY_COUNT=counts \
        DUO_MEMORY_SPARE="$spare" "$duo" "${words[@]}" >out.log 2>err.log </dev/null
}

declare -A calls
for command in "${commands[@]}"; do
    clean
    words_of "$command"
    inject '' || fail "$command: $(tail -1 err.log)"
    [ -e counts ] && grep -q '^leaked 0' counts || skip 'calls of this build cannot be intercepted'
    cp "$output" "good.$command"
    calls[$command]=$(awk '$1 == "calls" { print $2 }' counts)
    # The HDF5 library works in a child, where nobody counts.
    [ "$command" != seal ] || calls[$command]=6000
done

broken() {
    echo "memory: case $k, duo ${words[*]}, $fault: $*: $(tail -3 err.log)" >&2
    return 1
}

check() {
    local status=0 lines warnings
    inject "$fault" 2>/dev/null || status=$?
    lines=$(grep -cE '^(duo: |libgomp: )' err.log) || true
    warnings=$(grep -c '^duo: warning: ' err.log) || true
    [ $status -le 1 ] || broken "status $status" || return
    [ $((lines - warnings)) -eq $status ] || broken "status $status, $((lines - warnings)) lines" ||
        return
    [ -z "$(find . \( -name '*.tmp-*' -o -name next.h5 \))" ] ||
        broken "leaves $(find . -name '*.tmp-*' -o -name next.h5)" || return
    if grep -q '^libgomp: ' err.log; then # which ends the program where it stands
        stopped=$((stopped + 1))
        return
    fi
    grep -q '^leaked 0' counts || broken "$(cat counts)" || return
    # A run that could not save in between has gone on; its end is the same.
    [ $status -eq 1 ] || cmp -s "$output" "good.$command" || broken "another $output" || return
    # choices and generate print as they go on.
    case $command in answer | choices | generate | inspect) ;; *)
        [ $status -eq 0 ] || [ ! -e "$output" ] || cmp -s "$output" "good.$command" ||
            broken "leaves another $output" || return
        ;;
    esac
    stopped=$((stopped + status))
}

stopped=0 held=0
for ((k = first; k < first + count; k++)); do
    command=${commands[$((k % ${#commands[@]}))]} j=$((k / ${#commands[@]}))
    n=${calls[$command]}
    fault="$((1 + j * 61 % n)) $(((j + j / n) % 2))"
    clean
    words_of "$command"
    if check; then held=$((held + 1)); fi
done
each=$(for command in "${commands[@]}"; do printf '%s %d, ' "$command" "${calls[$command]}"; done)
echo "memory: tried $count, held $held ($stopped stopped with one line; calls: ${each%, })"
[ $held -eq "$count" ]
