#!/usr/bin/env bash
# Coverage-guided fuzzing of every reader, on from where the last call stopped. BUILD is made with
#     cmake -S . -B BUILD -DDUO_FUZZ=ON -DDUO_SANITIZE=ON -DCMAKE_C_COMPILER=clang
#         -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_C_FLAGS=-fsanitize=fuzzer-no-link
#         -DCMAKE_CXX_FLAGS=-fsanitize=fuzzer-no-link
# Usage: fuzz.sh BUILD SECONDS [TARGET...]
#     SECONDS are shared by the targets (all by default); what it counts is processor time
set -euo pipefail
build=$1
. "$(dirname "$0")/common.sh"
seeds=$(cd "$(dirname "$0")" && pwd)/fuzz/seeds
targets=("${@:3}")
[ $# -gt 2 ] || targets=(recipe store tokens checkpoint routes choices prompt tokenizer)
each=$(($2 / ${#targets[@]}))
[ $each -gt 0 ] || each=1

for target in "${targets[@]}"; do
    [ -x "$build/tests/fuzz_$target" ] || skip "$build has no targets for libFuzzer; see $0"
done
export ASAN_OPTIONS=allocator_may_return_null=1 OMP_NUM_THREADS=1
tried=0 held=0 inputs=0 TIMEFORMAT='%U %S'
cd "$build/tests"
for target in "${targets[@]}"; do
    mkdir -p "corpus_$target"
    status=0
    { time "./fuzz_$target" -max_total_time=$each -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="found_$target-" "corpus_$target" "$seeds/$target" >"fuzz_$target.log" 2>&1; } \
        2>"fuzz_$target.time" || status=$?
    ran_for=$(tail -1 "fuzz_$target.time" | awk '{ print int($1 + $2 + 0.5) }')
    tried=$((tried + ran_for))
    if [ $status -eq 0 ]; then
        held=$((held + ran_for))
    else
        grep -m1 -E 'ERROR|runtime error|SUMMARY' "fuzz_$target.log" | sed "s/^/fuzz_$target: /" >&2
    fi
    ran=$(sed -n 's/^stat::number_of_executed_units: *//p' "fuzz_$target.log")
    inputs=$((inputs + ${ran:-0}))
done
echo "fuzz: tried $tried, held $held (seconds; $inputs inputs)"
