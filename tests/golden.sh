#!/usr/bin/env bash
# Files of every format that was ever written must be read, with the content that they had and to
# the losses that they gave, on every instruction set. golden/expected says which; a line is
#
#     content FILE HASH                     what duo inspect gives
#     loss CHECKPOINT TOKENS POLICY NATS    of 4 held-out windows; a policy file:ROUTES is read too
#     resume CHECKPOINT TOKENS RECIPE       training goes on with it
#
# Usage: golden.sh DUO
set -euo pipefail
duo=$1
here=$(cd "$(dirname "$0")/golden" && pwd)
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1
enter_scratch
for file in "$here"/*.gz; do gzip -dc "$file" >"$(basename "$file" .gz)"; done
cp "$here"/*.conf .

# loss CHECKPOINT TOKENS POLICY
loss() {
    "$duo" eval "$1" --tokens "$2" --windows 4 --policy "$3" --json loss.json >eval.log 2>&1 ||
        fail "$1 under $3: $(tail -1 eval.log)"
    sed 's/.*"loss":\([0-9.]*\).*/\1/' loss.json
}

# Sums in another order: float32 keeps seven digits, and routes that hang on one may change.
near() {
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a - b < 2e-5 && b - a < 2e-5) }'
}

sets=$(for isa in portable avx2 avx512; do
    DUO_ISA=$isa "$duo" eval checkpoint-1.h5 --tokens tokens-1.h5 --windows 1 >/dev/null 2>&1 &&
        echo $isa
done) || true
[ -n "$sets" ] || fail "checkpoint-1.h5 is read on no instruction set"
n=0
while read -r what file rest; do
    case $what in
    content)
        said=$("$duo" inspect "$file" 2>&1 | head -1) || fail "$file: $said"
        [[ $said == *"verified, hash $rest" ]] || fail "$said; expected $rest"
        n=$((n + 1))
        ;;
    loss)
        read -r tokens policy expected <<<"$rest"
        for isa in $sets; do
            got=$(DUO_ISA=$isa loss "$file" "$tokens" "$policy")
            near "$got" "$expected" || fail "$file under $policy, $isa: loss $got, not $expected"
            n=$((n + 1))
        done
        ;;
    resume)
        read -r tokens recipe <<<"$rest"
        rm -rf on
        mkdir -p on/golden
        cp "$file" on/golden/stage-duo.h5
        "$duo" train "$recipe" --resume --checkpoints on --set "data.tokens=$tokens" \
            --set stage.router.steps=2 >resume.log 2>&1 ||
            fail "$file: $(tail -1 resume.log)"
        grep -q 'all stages done' resume.log || fail "$file: $(tail -1 resume.log)"
        n=$((n + 1))
        ;;
    '' | \#*) ;;
    *) fail "expected: what is '$what'?" ;;
    esac
done <"$here/expected"
echo "golden: tried $n, held $n (readings of $(find . -maxdepth 1 -name '*.h5' | wc -l) files, on \
${sets//$'\n'/, })"
[ $n -ge 8 ]
