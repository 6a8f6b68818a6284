#!/bin/sh
# duo bench works from end to end and its figures make sense. Usage: bench.sh DUO BENCH_FIGURES
set -u
duo=$(realpath "$1") figures=$(realpath "$2")
. "$(dirname "$0")/says.sh"

TMPDIR=$work "$duo" bench --quick --threads 1 2 --precision fp32 bf16 --json all.json >out 2>err ||
    fail "status $?: $(cat err)"
"$figures" all.json || fail figures
[ "$(ls)" = "all.json
err
out" ] || fail "left behind: $(ls)"
awk 'length > 110 { bad = 1; print } END { exit bad }' out || fail 'long lines'

"$duo" bench --quick --only oracle --threads 1 --precision fp32 >out 2>err || fail "oracle alone: $(cat err)"
grep -q '^oracle, fp32, 1 thread ' out || fail "oracle alone: $(cat out)"
[ "$(grep -c thread out)" = 1 ] || fail "more than the oracle: $(cat out)"
"$duo" bench --quick --only kernels --match rope --threads 1 --json rope.json >out 2>err
[ "$(grep -c '"name"' rope.json)" = 1 ] || fail "--match: $(cat out)"
"$duo" bench --quick --only memory --set model.n_layers=3 >out 2>err || fail "--set: $(cat err)"

refused() {
    status=$1 message=$2
    shift 2
    expect "$status" "$message" "$duo" bench --quick "$@"
}
refused 2 "duo bench: --only: 'speed' is no part of the benchmark; see --help" --only speed
refused 2 "duo bench: --threads: '0' is no number from 1 to 256" --threads 1 0
refused 2 "duo bench: --precision: 'fp16' is none of fp32, bf16" --precision fp16
refused 2 'duo bench: --repeats: 0 is outside 1..999' --repeats 0
refused 1 'duo: nowhere/x: cannot be written: No such file or directory' --json nowhere/x
refused 1 'duo: --set: give model.vocab_size, as --set model.vocab_size=4096' \
    --set model.vocab_size=0

[ "$failures" = 0 ]
