#!/usr/bin/env bash
# recipes/paper-mini.sh on a tiny model: every part, every table and the page; again without work;
# and parts that are wanted alone. Usage: paper_mini.sh DUO
set -uo pipefail
duo=$(realpath "$1")
script=$(realpath "$(dirname "$0")/../recipes/paper-mini.sh")
. "$(dirname "$0")/tiny_run.sh"
enter_scratch

functions() { # SEED
    awk -v seed="$1" 'BEGIN {
        srand(seed)
        for (i = 0; i < 700; i++) print "def f" int(rand() * 9) "(x): return x + " int(rand() * 50)
    }'
}
sentences 1 700 >prose.txt && sentences 2 700 >prose_held_out.txt
functions 1 >code.txt && functions 2 >code_held_out.txt
"$duo" prepare --output tokens.h5 --vocab-size 300 --domain prose --input prose.txt \
    --held-out prose_held_out.txt --domain code --input code.txt --held-out code_held_out.txt \
    >log 2>&1 || fail "prepare: $(tail -1 log)"
cat >tiny.conf <<CONF
name = tiny
model {
    n_layers = 12
    d_model = 16
    n_heads = 2
    d_big = 36
    d_small = 4
    max_seq = 24
}
data {
    tokens = "$work/tokens.h5"
}
stage duo {
    steps = 3
    batch_size = 2
    val_every = 0
    save_every = 0
    val_windows = 2
}
CONF
export DUO=$duo RECIPE=$work/tiny.conf RUNS=$work/runs TABLES=$work/tables
export ROUTER_STEPS=2 WINDOWS=1 COMMITTED_WINDOWS=1 EVAL_WINDOWS=2 ITEMS=5 RANDOM_PATTERNS=3

"$script" all 2>err && fail 'a part that there is not'
grep -q '^paper-mini.sh: no part all, only tokens duo ' err || fail "no part: $(cat err)"
"$script" tokens duo >log 2>&1 || fail "duo: $(tail -3 log)"
[ -e runs/tiny/stage-duo.h5 ] || fail 'duo: no model'
"$script" >log 2>&1 || fail "all parts: $(tail -3 log)"
for table in figure-2 figure-3 figure-4-prose figure-4-code hindsight figure-5-6 figure-5-6-tokens \
    figure-7 figure-8 methods; do
    [ -e "tables/$table.tsv" ] || fail "no table $table"
    grep -q '^#   duo ' "tables/$table.tsv" || [ $table = figure-5-6-tokens ] || fail "$table: no command"
    # Every row has the columns that the heading names.
    grep -v '^#' "tables/$table.tsv" | awk -F '\t' -v table="$table" '
        NR == 1 { n = NF } NF != n { print table ": " $0; bad = 1 } END { exit bad || NR < 2 }' ||
        fail "$table: rows are not as wide as their heading"
done
rows() { grep -cv '^#' "tables/$1.tsv"; }
# Budgets 0 to 12 of five policies, with schedules, small, big and routers; two domains of curves
# and of committed controls; seven models.
[ "$(grep -c '^oracle' tables/figure-4-prose.tsv)" = 14 ] || fail "figure-4: $(cat tables/figure-4-prose.tsv)"
[ "$(grep -c '^router ' tables/figure-4-code.tsv)" = 5 ] || fail "figure-4: $(cat tables/figure-4-code.tsv)"
[ "$(rows hindsight)" = $((1 + 2 * (13 + 2))) ] || fail "hindsight: $(cat tables/hindsight.tsv)"
[ "$(rows figure-8)" = $((1 + 2 * 5 + 5)) ] || fail "figure-8: $(cat tables/figure-8.tsv)"
[ "$(rows figure-7)" = $((1 + 3 * 24)) ] || fail "figure-7: $(cat tables/figure-7.tsv)"
awk -F '\t' '$1 == "exact" { found = 1; bad = $3 != 0 || $5 != 1 } END { exit !found || bad }' \
    tables/methods.tsv || fail "methods: $(cat tables/methods.tsv)"
# A share of 4 of 12 big, whatever the layer.
awk -F '\t' '$1 == "code" && $2 == 4 && $3 == "big" { s += $5; n++ } END { exit !(n == 12 && s > 3.99 && s < 4.01) }' \
    tables/figure-2.tsv || fail "figure-2: $(cat tables/figure-2.tsv)"
grep -q '"trained":"dense, small"' runs/tiny/report.html || fail 'the page has no models'

# Again: the same tables, and nothing is trained or searched.
cp -r tables before
"$script" >log 2>&1 || fail "again: $(tail -3 log)"
diff -r before tables >&2 || fail 'the tables are other ones'
grep -q 'training\|oracle-' log && fail "again: $(cat log)"

# With other settings nothing is mixed: one line says what they are of.
refuses() { # MESSAGE PART SETTING
    env "$3" "$script" "$2" >log 2>&1 && fail "$3: $2 is taken as it is"
    grep -qxF -e "$1" log || fail "$3: $(cat log), not $1"
}
refuses "$work/runs/tiny-plain-b4-s1: was trained with other settings: was steps = 2; is now steps = 3; move it away to train it anew" \
    routers ROUTER_STEPS=3
sed 's/steps = 3/steps = 6/' tiny.conf >longer.conf
refuses "$work/runs/tiny: was trained with other settings: was steps = 3; is now steps = 6; move it away to train it anew" \
    duo "RECIPE=$work/longer.conf"
refuses "$work/runs/tiny/loss-duo: was made by \`$(<runs/tiny/loss-duo.done)\`, not by \`$(
    sed 's/--windows 2/--windows 1/' runs/tiny/loss-duo.done)\`; remove $work/runs/tiny/loss-duo.done $work/runs/tiny/loss-duo.json to make it anew" \
    choices EVAL_WINDOWS=1
refuses "$work/runs/tiny/choices-prose: was made by \`$(<runs/tiny/choices-prose.done)\`, not by \`$(
    sed 's/--items 5/--items 6/' runs/tiny/choices-prose.done)\`; remove $work/runs/tiny/choices-prose.done $work/runs/tiny/choices-prose.jsonl to make it anew" \
    choices ITEMS=6
refuses "$work/runs/tiny/recipe.conf: its dry run fails and says ''" duo DUO=/bin/false
for part in oracle-prose methods; do
    COMMITTED_WINDOWS=2 "$script" $part >log 2>&1 && fail "$part of fewer windows is taken as it is"
    grep -q "/runs/tiny/.*: was made by \`duo oracle .*--windows 1 .*not by .*--windows 2 " log || fail "$part: $(cat log)"
done
# Other choices are answered anew.
rm runs/tiny/choices-{prose,code}.{done,jsonl}
ITEMS=6 "$script" choices >log 2>&1 || fail "other choices: $(tail -3 log)"
[ "$(grep -l '"items":6,' runs/tiny/choices-*.json | wc -l)" = 14 ] || fail "other choices: $(cat log)"
# What was made before settings were kept is taken as it is, and that is said.
for done in runs/tiny/*.done; do : >"$done"; done
rm runs/tiny/choices-{prose,code}.done
"$script" oracle-code choices >log 2>&1 || fail "no settings: $(tail -1 log)"
[ "$(grep -c 'made before settings were kept; taken as they are' log)" = 1 ] || fail "no settings: $(cat log)"
grep -q '== ' log && fail "no settings: $(cat log)"
exit 0
