#!/bin/sh
# The page of duo report in a real browser: a model whose vocabulary and names are made to break
# out of a page, its results, and the page opened from disk. Usage: report_browser.sh DUO MAKE_CHECKPOINT
set -u
duo=$(realpath "$1") make_checkpoint=$(realpath "$2")
driver=$(dirname "$(realpath "$0")")/report_browser.py
python=/usr/bin/python3
. "$(dirname "$0")/common.sh"

for program in chromium chromedriver "$python"; do
    command -v "$program" >/dev/null || skip "no $program (apt-get install chromium chromium-driver python3)"
done
[ -f /usr/share/javascript/chart.js/chart.min.js ] || skip 'no Chart.js (apt-get install libjs-chart.js)'
enter_folder
follower=
trap 'kill $follower 2>/dev/null; leave_folder' EXIT
export OMP_NUM_THREADS=1

# Lines that end script elements and comments, run in attributes, turn the direction of writing,
# or are no text at all; often enough that the vocabulary holds them in large pieces.
awk 'BEGIN {
    for (i = 0; i < 600; i++) {
        print "</script><script>window.broken=1</script> <img src=x onerror=\"window.broken=2\">"
        print "<!-- \047quoted\047 & \"double\" ]]> `back` ${broken=3} \\u0041 \342\200\256desrever\342\200\254"
        print "\327\251\327\234\327\225\327\235 \342\200\217mark\342\200\216 \033[31m \177 \342\200\250 tab\there", i
    }
}' >hostile.txt
"$duo" prepare --input hostile.txt --output tokens.h5 --vocab-size 400 >log 2>&1 || fail "$(cat log)"

run="a 'run' <b>&\"x\""
mkdir "$run" "$run/checkpoints" || exit 1
"$make_checkpoint" "$run/step-00000040.h5" tokenizer=tokens.h5 modules=skip,small,big \
    n_layers=3 max_seq=24 || exit 1
ln -s step-00000040.h5 "$run/latest"
cat >"$run/recipe.conf" <<'CONF'
name = tiny # </script><script>window.broken=4</script>
model { n_layers = 3 d_model = 32 n_heads = 4 d_big = 48 d_small = 16 max_seq = 24 vocab_size = 400 }
stage duo { steps = 20 batch_size = 2 }
stage router { steps = 20 batch_size = 2 budget = 1 }
CONF
awk 'BEGIN {
    for (s = 1; s <= 40; s++) {
        printf "{\"step\":%d,\"stage\":\"%s\",\"tokens\":%d,\"loss\":%.4f", s, (s > 20 ? "router" : "duo"), 48 * s, 6 - s / 16
        if (s % 10 == 0) printf ",\"val_loss\":%.4f", 6.25 - s / 16
        printf ",\"lr\":0.001,\"grad_norm\":0.5"
        if (s > 20) printf ",\"budget_loss\":0.01,\"temperature\":%.3f", 1 - s / 50
        printf ",\"usage\":{\"skip\":[0,0,0],\"small\":[0.5,0.75,0.25],\"big\":[0.5,0.25,0.75]}"
        print ",\"tokens_per_s\":1000,\"mfu\":0.25,\"seconds\":1}"
    }
}' >"$run/metrics.jsonl"
"$duo" oracle "$run" --tokens tokens.h5 --budget 1 --skip --windows 6 --seq-len 20 \
    --output "$run/oracle.h5" >log 2>&1 || fail "$(tail -1 log)"
"$duo" oracle "$run" --tokens tokens.h5 --context reference --compare --schedule 2:0 --windows 6 --seq-len 20 \
    --output reference.h5 --json compare.json >log 2>&1 || fail "$(tail -1 log)"
"$duo" eval "$run" --tokens tokens.h5 --windows 6 --seq-len 20 --json eval.json \
    --routes-out eval.h5 >log 2>&1 || fail "$(tail -1 log)"

# Routers that are told a budget, with two sets of thresholds.
"$make_checkpoint" one.h5 tokenizer=tokens.h5 modules=small,big inputs=budget n_layers=3 max_seq=24 || exit 1
"$duo" calibrate one.h5 --tokens tokens.h5 --windows 8 --output two.h5 >log 2>&1 || fail "$(tail -1 log)"
for told in one two; do
    "$duo" eval $told.h5 --tokens tokens.h5 --windows 6 --seq-len 20 --policy router --policy router:2 \
        --policy big --routes-out told-$told.h5 >log 2>&1 || fail "$(tail -1 log)"
done
"$duo" report "$run" --routes told-one.h5 told-two.h5 --output told.html >log || fail "$(tail -1 log)"

# Three models: trained together, one after the other, and one FFN alone; held-out losses in nats and
# a multiple choice. The fourth is measured on other text.
line() { # RUN TRAINED POLICY MFLOPS POSITIONS LOSS
    printf '{"policy":"%s","run":"%s","trained":"%s","model_hash":"%s","tokens_hash":"t","domain":null' "$3" "$1" "$2" "$1"
    printf ',"sequences":4,"positions":%s,"loss":%s,"loss_error":0.25,"flops_per_token":%se6' "$5" "$6" "$4"
    printf ',"usage":{"big":[%s,%s,%s]}}\n' "$7" "$7" "$7"
}
choice() { # RUN TRAINED POLICY MFLOPS ACCURACY
    printf '{"policy":"%s","run":"%s","trained":"%s","model_hash":"%s","choices":"a/quiz <b>.jsonl","items":50' "$3" "$1" "$2" "$1"
    printf ',"chance":0.25,"accuracy":%s,"accuracy_error":0.05,"big_share":0.5,"flops_per_token":%se6}\n' "$5" "$4"
}
{
    line both duo small 1 20 4.5 0
    line both duo random:0.5 2 20 4.25 0.5
    line both duo big 3 20 4.125 1
    line after 'dense, small' small 1 20 4.75 0
    line after 'dense, small' big 3 20 4.0 1
    line alone dense small 2 20 7 0
    line alone dense big 2 20 4.375 1
    line elsewhere dense big 2 21 1 1
    choice both duo random:0.5 2 0.5
    choice alone dense big 2 0.375
} >models.json
"$duo" report "$run" --routes reference.h5 eval.h5 compare.json eval.json models.json --output page.html \
    >log || fail 'no page'
[ "$(wc -c <page.html)" -lt 5000000 ] || fail "$(wc -c <page.html) bytes"
"$duo" report "$run" --output same.html >log && "$duo" report "$run" --output again.html >log
cmp same.html again.html || fail 'the same input gives other bytes'

# A run that goes on: the page loads itself anew, and is whole whenever it is read.
mkdir going && head -25 "$run/metrics.jsonl" >going/metrics.jsonl && cp "$run/recipe.conf" going/
"$duo" report going --follow --every 1 --output going.html >log 2>&1 &
follower=$!
"$python" "$driver" page.html told.html going.html going "$run/metrics.jsonl" || exit 1
wait $follower || fail "--follow: $(cat log)"
follower=
grep -q '"reload":0,' going.html || fail 'the page of a finished run still loads itself anew'

"$duo" report "$run" --output page.html --png figures >log 2>&1 || fail "--png: $(tail -1 log)"
for figure in loss map-1 routes-1 text-1; do
    head -c 8 "figures/$figure.png" | grep -q PNG || fail "no figure $figure"
done
