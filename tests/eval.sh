#!/bin/sh
# The command eval: texts and domains, and what cannot be asked for together.
# Usage: eval.sh DUO MAKE_CHECKPOINT
set -u
duo=$(realpath "$1") make_checkpoint=$(realpath "$2") seeds=$(realpath "$(dirname "$0")/fuzz/seeds")
. "$(dirname "$0")/says.sh"
export OMP_NUM_THREADS=1

make_texts
tail -c 9000 text.txt | tr a-y b-z >code.txt
tail -c 30000 text.txt | head -c 9000 | tr a-y b-z >held_out_code.txt
"$duo" prepare --output tokens.h5 --vocab-size 300 --domain prose --input text.txt \
    --held-out held_out.txt --domain code --input code.txt --held-out held_out_code.txt >log 2>&1 || fail "$(cat log)"
"$make_checkpoint" m.h5 tokenizer=tokens.h5 n_layers=3 modules=small,big max_seq=32 || exit 1

measure() { ends 0 '' eval m.h5 --policy big --policy random:0.3 "$@"; }
rows() { grep '^big\|^random' out | sed 's/ *[0-9]*$//'; } # without tokens per second

# A held-out text is one document: the windows of its domain are those of the file.
measure --tokens tokens.h5 --domain prose --windows 500
rows >by_domain
measure --text held_out.txt --seq-len 32 --windows 500
rows | cmp - by_domain || fail "of a text: $(cat out by_domain)"
ends 0 '' oracle m.h5 --text held_out.txt --seq-len 32 --windows 2 --budget 1 --json o.json
shows '2 x 32 of the'
grep -q '"domain":null,"text":"held_out.txt"' o.json || fail "$(cat o.json)"

# A table for every domain is what asking for each in turn gives.
measure --tokens tokens.h5 --domain code --windows 20 --json code.json
rows >by_domain
measure --tokens tokens.h5 --by-domain --windows 20 --json both.json
rows | tail -n 2 | cmp - by_domain || fail "of domains: $(cat out by_domain)"
[ "$(wc -l <both.json)" = 4 ] || fail "$(cat both.json)"
without_rate() { sed 's/"tokens_per_s":[^,]*,//' "$1"; }
without_rate code.json >code_rows.json
without_rate both.json | grep '"domain":"code"' | cmp - code_rows.json || fail "$(cat both.json)"

# What goes to the place that is printed to comes behind what was printed, whatever that place is.
"$duo" eval m.h5 --tokens tokens.h5 --domain code --windows 20 --json /dev/stdout >printed 2>&1 || fail "$(cat printed)"
grep -q '^small' printed && tail -n 1 printed | grep -q '^{.*}$' || fail "of table and JSON is left: $(cat printed)"
"$duo" eval m.h5 --tokens tokens.h5 --domain code --windows 20 --json /dev/stdout 2>&1 | cat >piped
[ "$(wc -l <piped)" = "$(wc -l <printed)" ] || fail "a file and a pipe differ: $(cat piped)"

# Windows of a text without a length leave out as few tokens as they can.
head -c 150 held_out.txt >short.txt
measure --text short.txt
tokens=$(sed -n 's/.* of the \([0-9]*\) tokens of short.txt/\1/p' out)
measured=$(awk '{ print $1 * $3; exit }' out)
[ "$tokens" -gt 32 ] && [ $((tokens - measured)) -lt $((tokens / 32 + 1)) ] || fail "$(cat out)"
head -c 7 held_out.txt >few.txt
measure --text few.txt
ends 1 'duo: few.txt: its 5 tokens are less than --seq-len 32' eval m.h5 --text few.txt --seq-len 32

head -c 9 held_out_code.txt >little_code.txt
"$duo" prepare --output short.h5 --tokenizer tokens.h5 --domain prose --input text.txt --held-out held_out.txt \
    --domain code --input code.txt --held-out little_code.txt >log 2>&1 || fail "$(cat log)"
ends 1 'duo: short.h5: domain code holds no held-out window of 33 tokens' eval m.h5 --tokens short.h5 --by-domain
[ -s out ] && fail "a table of some domains: $(cat out)"

: >empty.txt
ends 1 'duo: empty.txt: is empty' eval m.h5 --text empty.txt
# A tokenizer without marks: a text of one token has none to predict.
LC_ALL=C sed 's/<s>/<x>/; s/<\/s>/<\/x>/' "$seeds/tokenizer/plain.model" >unmarked.model
"$make_checkpoint" unmarked.h5 tokenizer=unmarked.model max_seq=32 || exit 1
printf a >one.txt
ends 1 'duo: one.txt: is a single token, with none to predict' eval unmarked.h5 --text one.txt
printf 'the \377' >bytes.txt
ends 1 'duo: bytes.txt: byte 4 of the text: not UTF-8' eval m.h5 --text bytes.txt
ends 1 'duo: none.txt: No such file or directory' eval m.h5 --text none.txt
ends 1 'duo: few.txt: is what this command reads; give another output' \
    eval m.h5 --text few.txt --json few.txt
ends 2 'duo eval: --text and --by-domain exclude each other' eval m.h5 --text few.txt --by-domain
ends 2 'duo eval: --choices and --windows exclude each other' eval m.h5 --choices c.jsonl --windows 3
measure --text few.txt --routes-out routes.h5
ends 0 '' inspect routes.h5 --attribute split
shows text
ends 2 'duo eval: --policy file:routes.h5: has a text of its own, no other can be given' \
    eval m.h5 --policy file:routes.h5 --text few.txt
for option in '--tokens tokens.h5' '--seq-len 8' --random-tokens; do
    # shellcheck disable=SC2086 # an option and its value
    ends 2 'duo probe: --routes file:routes.h5: has a text of its own, no other can be given' \
        probe m.h5 --output p.h5 --routes file:routes.h5 $option
done
ends 0 '' probe m.h5 --output p.h5 --routes file:routes.h5
ends 1 'duo: unmarked.h5: has no routers, which --gumbel needs' \
    probe unmarked.h5 --output p.h5 --gumbel --target-big 0.5

# Of which split the sequences of a routes file are goes on to the routes found on them.
ends 0 '' oracle m.h5 --tokens tokens.h5 --windows 2 --training --budget 1 --output training.h5
ends 0 '' eval m.h5 --policy big --policy file:training.h5 --routes-out routes.h5
ends 0 '' inspect routes.h5 --attribute split
shows training

# Policies that their file could not tell apart are refused before they are measured.
ends 2 'duo eval: --policy: big is given twice' eval m.h5 --tokens tokens.h5 --policy big --policy big
"$make_checkpoint" told.h5 tokenizer=tokens.h5 modules=small,big inputs=budget || exit 1
ends 2 'duo eval: --policy: router and router:1 are both router:1' \
    eval told.h5 --tokens tokens.h5 --policy router --policy router:1
mkdir of && cp training.h5 of/training.h5 && cp training.h5 of_training.h5
ends 2 'duo eval: --policy: file:of/training.h5 and file:of_training.h5 would both be file:of_training.h5 in r.h5' \
    eval m.h5 --policy file:of/training.h5 --policy file:of_training.h5 --routes-out r.h5
[ -s out ] && fail "measured what cannot be written: $(cat out)"
ends 0 '' eval m.h5 --policy file:of/training.h5 --policy file:of_training.h5

# JSON and HDF5 hold UTF-8, names of files any bytes.
strange=$(printf 'of/\377.h5')
cp training.h5 "$strange"
ends 0 '' eval m.h5 --policy "file:$strange" --routes-out r.h5 --json r.json
grep -q '"policy":"file:of/\\ufffd.h5"' r.json || fail "$(cat r.json)"
ends 0 '' inspect r.h5 --attribute policy
shows "file:of_$(printf '\357\277\275').h5"

[ "$failures" = 0 ]
