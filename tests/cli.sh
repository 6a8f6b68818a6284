#!/bin/sh
# What scripts rely on: exit status, one line on stderr, nothing lost silently on stdout.
# Usage: cli.sh DUO STORE_SAMPLE
set -u
duo=$(realpath "$1") sample=$(realpath "$2") recipes=$(realpath "$(dirname "$0")/../recipes")
. "$(dirname "$0")/says.sh"

expect 2 'duo: no command given; duo --help lists them' "$duo"
expect 2 'duo bake: no such command; duo --help lists them' "$duo" bake
expect 0 '' "$duo" --version
shows 'duo '
expect 0 '' "$duo" --help
awk '/^  [a-z]/ { print $1 }' out >commands
while read -r command; do
    expect 0 '' "$duo" "$command" --help
    shows "usage: duo $command"
    shows 'example:'
    expect 2 "duo $command: --nonsense: no such option; see duo $command --help" \
        "$duo" "$command" --nonsense
done <commands

"$sample" write sample.h5 || exit 1
expect 1 'duo: sample.h5: attribute vocab_size of / is missing' "$duo" inspect sample.h5
shows 'sample.h5: tokens, verified, hash '
shows '/train/tokens'
expect 0 '' "$duo" inspect sample.h5 --values=/a/b/floats
shows '1.5 -2.25 3'
expect 1 'duo: sample.h5: no dataset /b' "$duo" inspect sample.h5 --values /b
expect 1 'duo: sample.h5: /train/tokens: not bytes but uint16' \
    "$duo" inspect sample.h5 --bytes /train/tokens
expect 2 'duo inspect: FILE is missing; see duo inspect --help' "$duo" inspect
expect 2 'duo seal: b: one argument too many; see duo seal --help' "$duo" seal a sample.h5 b

expect 0 '' "$duo" seal sample.h5 again.h5
expect 0 '' "$duo" inspect again.h5 --values /train/tokens
shows '0 1 65535 7'
# A model that gets routers is there twice for a moment.
cat >wide.conf <<'RECIPE'
name = wide
model { n_layers = 1 d_model = 64 n_heads = 4 d_big = 65536 d_small = 8 max_seq = 1048576 vocab_size = 99 }
stage router { steps = 1 batch_size = 1 seq_len = 2 budget = 1 }
stage more { kind = router steps = 1 batch_size = 1 seq_len = 2 budget = 1 }
RECIPE
expect 0 'duo: warning: stage router: nothing has trained the model before it; `init` starts from the weights of another run' \
    "$duo" train wide.conf --dry-run
grep -q '^router .* 224\.[0-9] *112\.1 *112\.1$' out || fail "$(cat out)"
grep -q '^more .* 112\.1 *9[0-9]\.[0-9]$' out || fail "$(cat out)"

printf 'x' >>sample.h5
"$duo" inspect sample.h5 >out 2>err
if [ $? != 1 ] || [ "$(wc -l <err)" != 1 ] || [ -s out ]; then
    fail "damaged file: $(cat out err)"
fi

expect 2 'duo train: RECIPE is missing; see duo train --help' "$duo" train
"$duo" train "$recipes/duo-1.4b.conf" --dry-run >out 2>err || fail "$(cat err)"
grep -v ' this machine has ' err && fail 'said more'
shows 'parameters 1.399 B'
awk '/memory, MiB/ { table = 1; next } !table { next } { d = $(NF - 2) - $(NF - 1) - $NF }
    d < 0.2 && d > -0.2 { good++ } END { exit good != 2 }' out ||
    fail "memory does not add up: $(tail -3 out)"

# Where results cannot go is said before the work, which may take hours.
for command in 'report --output' 'oracle --output' 'eval --json' 'eval --routes-out' 'probe --output'; do
    expect 1 'duo: nowhere/x: cannot be written: No such file or directory' \
        "$duo" "${command% *}" none "${command#* }" nowhere/x
    expect 1 'duo: .: is a folder' "$duo" "${command% *}" none "${command#* }" .
done

awk 'BEGIN { for (i = 0; i < 400; i++) print "the river number", i, "meets the sea" }' >"my text.txt"
sed 's/.*/{"body": "&"}/' "my text.txt" >lines.jsonl
printf '{"body": "no end' >bad.jsonl
prepare() { "$duo" prepare --output t.h5 --vocab-size 290 --json-key body "$@"; }
expect 2 'duo prepare: --output is missing; see duo prepare --help' "$duo" prepare --input lines.jsonl
expect 2 'duo prepare: --input is missing; see duo prepare --help' prepare
expect 2 'duo prepare: --tokenizer and --vocab-size exclude each other' \
    prepare --tokenizer x.model --input lines.jsonl
expect 2 'duo prepare: --input: stands before the first --domain' prepare --input a --domain b --input c
expect 2 'duo prepare: --input: missing for domain b' prepare --domain a --input x --domain b
expect 1 'duo: nowhere/x: cannot be written: No such file or directory' \
    "$duo" prepare --output nowhere/x --input lines.jsonl
expect 1 'duo: .: is a folder' "$duo" prepare --output . --input lines.jsonl
expect 1 'duo: gone.txt: cannot open: No such file or directory' prepare --input gone.txt
expect 1 "duo: bad.jsonl:1: not JSON: premature end of input near '\"no end' at byte 16" \
    prepare --input bad.jsonl
prepare --input lines.jsonl --vocab-size 99999 >out 2>err
grep -q '^duo: t.h5: a vocabulary of 99999 is too large: .*; --vocab-size N sets it$' err || fail "$(cat err)"
expect 0 '' "$duo" prepare --help
shows 'JSON, a document per line, where the name ends in .jsonl or .json'
echo '["body"]' >list.json
expect 1 'duo: list.json:1: not a JSON object' prepare --input list.json
prepare --domain plain --input "my text.txt" --domain lines --input lines.jsonl >out 2>err || fail "$(cat err)"
shows 't.h5: written'
shows 'vocabulary 290, unigram entropy of the held-out tokens'
cp t.h5 before.h5
prepare --domain plain --input "my text.txt" --domain lines --input lines.jsonl >out 2>err || fail "$(cat err)"
shows 't.h5: up to date'
cmp t.h5 before.h5 || fail 't.h5 was changed'
prepare --input lines.jsonl >out 2>err
if [ $? != 1 ] || [ "$(tail -n 1 err)" != \
    'duo: t.h5: exists and was made from other inputs; --force replaces it' ]; then
    fail "another output in the way: $(cat out err)"
fi
[ "$(ls -d t.h5*)" = t.h5 ] || fail "left behind: $(ls)"

# What is replaced without a question is of its own kind, and nothing that is read.
ln -s t.h5 link.h5
echo 'name = mine' >mine.conf
for command in 'report --output' 'eval --json' 'eval --usage' 'oracle --tsv' 'eval --routes-out' \
    'probe --output' 'calibrate --output'; do
    expect 1 'duo: t.h5: is a tokens file already; give another output' \
        "$duo" "${command% *}" none "${command#* }" t.h5
done
expect 1 'duo: link.h5: is a tokens file already; give another output' "$duo" eval none --json link.h5
for command in 'eval --routes-out' 'probe --output' 'calibrate --output'; do
    expect 1 'duo: link.h5: is a symbolic link; give another output' \
        "$duo" "${command% *}" none "${command#* }" link.h5
    expect 1 'duo: mine.conf: is there already, and no sealed file; give another output' \
        "$duo" "${command% *}" none "${command#* }" mine.conf
done
expect 1 'duo: none: cannot open: No such file or directory' "$duo" eval none --json /dev/stdout
expect 1 'duo: t.h5: is a tokens file already; give another output' "$duo" choices t.h5 --output t.h5
expect 1 'duo: lines.jsonl: is what this command reads; give another output' \
    "$duo" eval none --choices lines.jsonl --json lines.jsonl
expect 1 'duo: t.h5: is what this command reads; give another output' "$duo" seal t.h5 t.h5
cmp t.h5 before.h5 || fail 't.h5 was changed'

if [ -w /dev/full ]; then
    expect 1 'duo: standard output: No space left on device' sh -c "'$duo' --help >/dev/full"
fi
expect 0 '' sh -c "'$duo' inspect again.h5 --values /train/tokens | :"

expect 2 'duo probe: --tau: does nothing without --gumbel' "$duo" probe none --output p.h5 --tau 2
"$duo" bench --quick --only kernels --match spoon --threads 1 >out 2>err
if [ $? != 1 ] || [ "$(tail -1 err)" != "duo: --match: nothing that was asked for has 'spoon' in its name" ]; then
    fail "--match of nothing: $(cat err)"
fi
expect 0 '' "$duo" inspect t.h5 --attribute sources
[ "$(grep -c '	' out)" = 2 ] || fail "$(cat out)"
expect 1 'duo: t.h5: no attribute colour' "$duo" inspect t.h5 --attribute colour
mkdir run && ln -s ../t.h5 run/latest
expect 0 '' "$duo" inspect run
shows 'run/latest: tokens, verified'
# Threads that are bound keep a place each. Named, since clang's runtime may take two processors for one core.
if [ "$(nproc)" -gt 1 ]; then
    bound=$(env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT OMP_PLACES=threads OMP_PROC_BIND=true OMP_NUM_THREADS=2 \
        OMP_DISPLAY_AFFINITY=true OMP_AFFINITY_FORMAT='place %A' \
        "$duo" bench --quick --only machine --threads 2 2>&1 | grep '^place' | sort -u | wc -l)
    [ "$bound" -gt 1 ] || fail "bound threads have $bound places"
fi

[ "$failures" = 0 ]
