#!/bin/sh
# The command oracle: results that a stopped run goes on with, files of something else left alone,
# tables and files; multiple choice from the command line.
# Usage: oracle.sh DUO MAKE_CHECKPOINT
set -u
duo=$(realpath "$1") make_checkpoint=$(realpath "$2")
. "$(dirname "$0")/says.sh"
export OMP_NUM_THREADS=1

make_texts
prepare() { "$duo" prepare --vocab-size 290 --input text.txt "$@" >log 2>&1 || fail "$(cat log)"; }
prepare --output tokens.h5 --held-out held_out.txt
"$make_checkpoint" m.h5 tokenizer=tokens.h5 n_layers=5 modules=small,big max_seq=32 || exit 1
"$make_checkpoint" other.h5 tokenizer=tokens.h5 n_layers=5 modules=small,big max_seq=32 seed=2 || exit 1
oracle() { ends 0 '' oracle m.h5 --tokens tokens.h5 "$@"; }

# A committed search with its control: every policy is in the file and can be measured again.
oracle --windows 6 --budget 2 --control --output a.h5 --difficulty d.jsonl --json a.json
shows 'oracle over small,big, budget 2 of 5 layers, exact, committed context'
shows 'corrected gain'
grep -q '"hindsight":\[$' a.json && grep -q '^{"big":2,"oracle":.*"corrected":.*"corrected_error":0' a.json ||
    fail "no hindsight of a committed search: $(cat a.json)"
grep -q '"search_flops_per_token":[1-9]' a.json || fail "no FLOPs of the search: $(cat a.json)"
[ "$(wc -l <d.jsonl)" = $((6 * 32)) ] || fail "difficulty: $(wc -l <d.jsonl) lines"
ends 0 '' eval m.h5 --policy file:a.h5 --policy file:a.h5#control --policy file:a.h5#small --policy big
found=$("$duo" inspect a.h5 --values /loss | tr ' ' '\n' | awk 'NF { s += $1; n++ } END { print s / n }')
awk -v found="$found" '$1 == "file:a.h5" { d = $2 - found } END { exit !(d < 0.001 && d > -0.001) }' out ||
    fail "another loss than $found: $(cat out)"
ends 1 'duo: a.h5: holds no policy nothing; duo inspect lists them' eval m.h5 --policy file:a.h5#nothing
ends 1 'duo: a.h5: is what this command reads; give another output' \
    eval m.h5 --policy file:a.h5#small --routes-out a.h5

# The same command again does nothing more; stopped work goes on to the same bytes.
cp a.h5 before.h5
oracle --windows 6 --budget 2 --control --output a.h5
shows 'a.h5: 6 of 6 sequences are there already'
cmp a.h5 before.h5 || fail 'a finished file was changed'
long() { # FILE OPTION...
    file=$1
    shift
    exec "$duo" oracle m.h5 --tokens tokens.h5 --windows 100 "$@" --output "$file" >out 2>err
}
# goes_on NAME OPTION...: stopped in the middle and gone on with, it ends as in one go
goes_on() {
    name=$1 stopped=false
    shift
    began=$(date +%s%N)
    (long "whole-$name.h5" "$@") || fail "$(cat err)"
    took=$(($(date +%s%N) - began))
    for share in 50 70 90 30; do # of that time; the machine may have become faster
        rm -f "parts-$name.h5"
        (long "parts-$name.h5" "$@") &
        sleep "$(awk -v t="$took" -v share="$share" 'BEGIN { print t * share * 1e-11 }')"
        kill -TERM $! 2>/dev/null
        wait $! || fail "$name: a stop is no failure: $(cat err)"
        if grep -q "sequences are in parts-$name.h5; the same command goes on" out; then
            stopped=true
            break
        fi
        [ -e "parts-$name.h5" ] || grep -q 'stopped before the first of ' out ||
            fail "$name: stopped: $(cat out err)"
    done
    $stopped || echo "oracle.sh: no stop met the middle of $name"
    (long "parts-$name.h5" "$@") || fail "$name: $(cat err)"
    cmp "whole-$name.h5" "parts-$name.h5" ||
        fail "$name: stopped and gone on with, the results differ"
}
goes_on compare --compare --random 20 --fixed-windows 2
goes_on values --values best

# Something else is refused in one line, and what is there stays.
again() { begins 1 "$1" oracle "$2" --tokens "$3" --windows 6 --budget "$4" --control --output a.h5; }
again 'duo: a.h5: holds results with budget 2, wanted is 3; give another output' m.h5 tokens.h5 3
again 'duo: a.h5: holds results with model_hash ' other.h5 tokens.h5 2
head -c 12000 held_out.txt >other.txt
prepare --output later.h5 --held-out other.txt
again 'duo: a.h5: holds results with tokens_hash ' m.h5 later.h5 2
head -c 70000 a.h5 >cut.h5
begins 1 'duo: cut.h5: ' oracle m.h5 --tokens tokens.h5 --windows 6 --budget 2 --control --output cut.h5
cmp a.h5 before.h5 || fail 'a refused run changed the file'
begins 1 'duo: ' oracle m.h5 --tokens tokens.h5 --budget 6
begins 2 'duo oracle: ' oracle m.h5 --tokens tokens.h5 --budget six
ends 2 "duo oracle: --method: 'width' is none of exact, beam:W, greedy:W" oracle m.h5 --method width
ends 1 'duo: schedule 9:2: the model has 5 layers' oracle m.h5 --tokens tokens.h5 --schedule 9:2
ends 2 'duo oracle: --schedule: 4:2 is given twice' oracle m.h5 --tokens tokens.h5 --compare --schedule 4:2 --schedule 4:2
ends 2 'duo oracle: --schedule: 04:2 is given twice' oracle m.h5 --tokens tokens.h5 --compare --schedule 4:2 --schedule 04:2
ends 1 'duo: --compare: patterns are of big and one other module' oracle m.h5 --tokens tokens.h5 --skip --compare

# The comparison: reference context holds its control; a budget by position.
oracle --max-tokens 200 --compare --schedule 4:2 --random 5 --tsv c.tsv --json c.json
shows '6 x 32 held-out tokens'
shows 'label-free'
shows 'schedule 4:2'
[ "$(grep -c '^fixed' c.tsv)" = 6 ] && [ "$(grep -c '^oracle' c.tsv)" = 7 ] || fail "$(cat c.tsv)"
grep -q '"corrected_error"' c.json || fail "$(cat c.json)"
oracle --windows 2 --context reference --reference BSBSB --budget 0..2
shows 'reference context BSBSB'
oracle --windows 2 --schedule 4:1 --goal label-free
shows 'label-free over small,big, budget schedule 4:1 of 5 layers'

# What choices are worth, along the oracle's routes and along others'.
oracle --windows 3 --budget 2 --values best --output v.h5
"$duo" inspect v.h5 >shapes
grep -q '/values .*3 x 32 x 5 x 3' shapes || fail "no values: $(cat shapes)"
cp v.h5 before.h5
oracle --windows 3 --budget 2 --values best --output v.h5
cmp v.h5 before.h5 || fail 'a finished file with values was changed'
begins 1 'duo: v.h5: holds results with values best, wanted is same' \
    oracle m.h5 --tokens tokens.h5 --windows 3 --budget 2 --values same --output v.h5
oracle --windows 3 --along random:0.5 --values same --output along.h5
shows 'random:0.5 over small,big, budget none of 5 layers'
ends 2 "duo oracle: --values: 'good' is neither best nor same" oracle m.h5 --values good --output w.h5
ends 2 'duo oracle: --along: names the routes whose --values are wanted' oracle m.h5 --along big
ends 2 'duo oracle: --values: need the exact method' \
    oracle m.h5 --values best --method beam:2 --output w.h5
ends 2 'duo oracle: --values: are of one search in committed context, without --control' \
    oracle m.h5 --values best --control --output w.h5
ends 2 'duo oracle: --values: does nothing without --output' oracle m.h5 --values best
ends 2 'duo oracle: --random: does nothing without --compare' oracle m.h5 --random 5
ends 2 'duo oracle: --reference: does nothing without --context reference' \
    oracle m.h5 --tokens tokens.h5 --reference BSBSB

# Multiple choice.
ends 0 '' choices tokens.h5 --items 20 --context 8 --continuation 4 --output c.jsonl
[ "$(wc -l <c.jsonl)" = 20 ] || fail "$(cat out)"
shows 'c.jsonl: 20 items of 4 choices, out of 1 document long enough; answer them'
begins 0 'duo: warning: the items hold 72000 tokens, the 1 document long enough for them' \
    choices tokens.h5 --items 3000 --context 8 --continuation 4 --output many.jsonl
ends 0 '' eval m.h5 --choices c.jsonl --policy big --policy random:0.5 --json e.json
shows '20 items of c.jsonl, chance 25.0 %'
[ "$(wc -l <e.json)" = 2 ] || fail "$(cat e.json)"
# What tells models apart is in both kinds of lines, and a token costs the same in both.
ends 0 '' eval m.h5 --tokens tokens.h5 --policy big --windows 2 --json l.json
for key in run trained model_hash language_hash flops_per_token; do
    value() { sed 1q "$1" | grep -o "\"$key\":[^,}]*"; }
    [ -n "$(value e.json)" ] && [ "$(value e.json)" = "$(value l.json)" ] || fail "$key: $(cat e.json l.json)"
done
echo '{"context": "the", "choices": [" king"], "answer": 0}' >bad.jsonl
ends 1 'duo: bad.jsonl:1: needs an array of two or more choices' eval m.h5 --choices bad.jsonl
ends 1 'duo: policy file:a.h5: holds the routes of other texts' eval m.h5 --choices c.jsonl --policy file:a.h5

[ "$failures" = 0 ]
