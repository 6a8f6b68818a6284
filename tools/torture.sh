#!/usr/bin/env bash
# The tests of durability with large counts, in rounds, for a time. It goes on where it was stopped
# (build/torture.state; STATE=FILE elsewhere) and prints one table of all rounds so far.
#
#     tools/torture.sh [--minutes N] [--only NAME] [--table] [BUILD]
#
#     --minutes N   stop before a round that would begin after N minutes (default 10)
#     --only NAME   kills, signals, power_loss, faults, faults_large, two_at_once, full_disk,
#                   corruption, damaged_runs, hostile, seal, memory, determinism, golden,
#                   valgrind, threads, bad_numbers or fuzz
#     --table       only print the table
#     BUILD         a folder that tools/test.sh has built (default build); fuzz and threads want
#                   others, BUILD-fuzz and BUILD-threads, made as tests/fuzz.sh and threads.sh say
#
# Without --only, the test that is furthest from its goal gets the next round. Exit status 1 when
# a promise was broken, with what the test said about it in build/torture.NAME.log.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
minutes=10 only='' table=false build=''

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit "$1"
}

while [ $# -gt 0 ]; do
    case $1 in
    --minutes | --only)
        [ $# -gt 1 ] || usage 2
        [ "$1" = --minutes ] && minutes=$2 || only=$2
        shift
        ;;
    --table) table=true ;;
    --help | -h) usage 0 ;;
    -*) usage 2 ;;
    *) build=$1 ;;
    esac
    shift
done
build=$(realpath "${build:-$root/build}")
state=${STATE:-$build/torture.state}
duo=$build/src/cli/duo tests=$root/tests
case $minutes in '' | *[!0-9]*) usage 2 ;; esac

# NAME GOAL ROUND: how often in all, and how often in a round of a minute or less
rounds='kills 2000 100
signals 200 50
power_loss 20000 2000
faults 20000 200
faults_large 1000 50
two_at_once 2000 500
full_disk 20 2
corruption 1000000 30000
damaged_runs 10000 50
hostile 1241 160
seal 10000 100
memory 100000 240
determinism 600 56
golden 100 15
valgrind 18 18
threads 18 18
bad_numbers 190 19
fuzz 14400 40'
promise_of() {
    case $1 in
    kills) echo 'kill -9 at any moment: it resumes, nothing acknowledged is lost, the same bits' ;;
    signals) echo 'SIGTERM, SIGINT: saved within a step, status 0' ;;
    power_loss) echo 'power loss at any moment: nothing acknowledged is lost' ;;
    faults) echo 'a call of the system fails: a warning or one line, nothing left behind' ;;
    faults_large) echo 'the same with tensors of 1 MiB' ;;
    two_at_once) echo 'a second run is refused, readers see whole files' ;;
    full_disk) echo 'a full disk: warnings, then a save when there is room' ;;
    corruption) echo 'a changed file is refused, and what is damaged is named' ;;
    damaged_runs) echo 'a damaged checkpoint is put aside, the one before it used, the same bits' ;;
    hostile) echo 'files of strangers, sealed: named in one line by every command, little memory' ;;
    seal) echo 'HDF5 of strangers: taken in or refused, crashes stay behind the fence' ;;
    memory) echo 'memory runs out at any call: the same result or one line, nothing left' ;;
    determinism) echo 'the same bytes on 1 to 4 threads, stopped and resumed' ;;
    golden) echo 'files of every format version are read, to the same losses' ;;
    valgrind) echo 'memcheck finds nothing in any command' ;;
    threads) echo 'ThreadSanitizer finds nothing in any command' ;;
    bad_numbers) echo 'numbers that are not finite: skipped, rolled back or stopped, never saved' ;;
    fuzz) echo 'seconds of libFuzzer on eight readers: nothing crashes' ;;
    esac
}
grep -q "^${only:-kills} " <<<"$rounds" || usage 2

# run NAME COUNT FIRST: a round; its last line says "NAME: tried N, held M (...)"
run() {
    case $1 in
    kills | signals) "$tests/$1.sh" "$duo" "$2" $(($3 + 1)) ;;
    power_loss)
        "$tests/power_loss.sh" "$duo" "$build/tests/recorder.so" "$build/tests/power_loss" "$2" "$3"
        ;;
    faults) "$tests/faults.sh" "$duo" "$build/tests/faults.so" "$2" "$3" ;;
    faults_large)
        "$tests/faults.sh" "$duo" "$build/tests/faults.so" "$2" "$3" \
            --set model.d_big=8192 --set model.n_layers=1
        ;;
    two_at_once) "$tests/two_at_once.sh" "$duo" $(($2 / 5)) ;;
    full_disk) "$tests/full_disk.sh" "$duo" ;;
    corruption) "$tests/corruption.sh" "$duo" "$build/tests/corrupt" "$2" 0 "$3" ;;
    damaged_runs) "$tests/corruption.sh" "$duo" "$build/tests/corrupt" 0 "$2" "$3" ;;
    hostile) "$tests/hostile.sh" "$duo" "$build/tests/hostile" 8 $(($3 * 8 / 1241)) 4 ;;
    seal) "$tests/seal.sh" "$duo" "$build/tests/corrupt" "$2" "$3" ;;
    memory) "$tests/memory.sh" "$duo" "$build/tests/short_memory.so" "$2" "$3" ;;
    determinism) "$tests/determinism.sh" "$duo" 4 "$3" ;;
    golden) "$tests/golden.sh" "$duo" ;;
    valgrind) "$tests/valgrind.sh" "$duo" ;;
    threads) "$tests/threads.sh" "$build-threads" ;;
    bad_numbers) "$tests/bad_numbers.sh" "$duo" ;;
    fuzz) "$tests/fuzz.sh" "$build-fuzz" "$2" ;;
    esac
}

# The state: lines "NAME TRIED HELD", the last of a name counts.
field() {
    awk -v name="$1" -v field="$2" '$1 == name { n = $field } END { print n + 0 }' "$state"
}

print_table() {
    local name goal round
    printf '%-14s %9s %9s %9s  %s\n' test goal tried held promise
    while read -r name goal round; do
        printf '%-14s %9d %9d %9d  %s\n' "$name" "$goal" "$(field "$name" 2)" "$(field "$name" 3)" \
            "$(promise_of "$name")"
    done <<<"$rounds"
}

# Of those that may run, the one with the smallest share of its goal.
next_round() {
    local name goal round
    while read -r name goal round; do
        [ -z "$only" ] || [ "$only" = "$name" ] || continue
        grep -qx "$name" <<<"$skipped" && continue
        echo "$(($(field "$name" 2) * 1000 / goal)) $name $round"
    done <<<"$rounds" | sort -n | head -1
}

play() {
    local name=$1 count=$2 tried held result status=0
    tried=$(field "$name" 2) held=$(field "$name" 3)
    result=$(run "$name" "$count" "$tried" 2>"$build/torture.$name.log") || status=$?
    if [ $status -eq 77 ]; then
        echo "$name: $result"
        skipped+=$'\n'$name
        return
    fi
    # A script that stops at the first failure has no such line: one that did not hold.
    read -r new_tried new_held < <(sed -n 's/.*: tried \([0-9]*\), held \([0-9]*\).*/\1 \2/p' \
        <<<"$result" | tail -1) || { new_tried=1 new_held=0; }
    echo "$name $((tried + new_tried)) $((held + new_held))" >>"$state"
    if [ $status -eq 0 ] && [ "$new_tried" -eq "$new_held" ]; then return; fi
    broken=1
    echo "$name: broken after $tried: $(tail -1 "$build/torture.$name.log")"
}

[ -x "$duo" ] || { echo "torture: $duo is missing: tools/test.sh builds it" >&2; exit 1; }
touch "$state"
broken=0 skipped='' end=$((SECONDS + 60 * minutes))
while ! $table && [ $SECONDS -lt $end ]; do
    read -r _ name count < <(next_round) || break
    play "$name" "$count"
done
print_table
exit $broken
