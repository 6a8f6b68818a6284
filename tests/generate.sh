#!/bin/sh
# The command generate: the same text for the same seed, however it is cut into prompt and
# continuation; valid UTF-8 from any model; its ends and its errors.
# Usage: generate.sh DUO MAKE_CHECKPOINT
set -u
duo=$(realpath "$1") make_checkpoint=$(realpath "$2")
. "$(dirname "$0")/says.sh"
export OMP_NUM_THREADS=1

# generates STATUS STDERR ARGUMENT...: stderr is exactly this.
generates() {
    status=$1 message=$2
    shift 2
    expect "$status" "$message" "$duo" generate "$@"
}

make_tokens 3000

# A model that has learned the text: it continues whole words, so that a continuation that is given
# back as a prompt becomes the same tokens. Prompts run as one pass, continuations token by token.
cat >tiny.conf <<'CONF'
name = tiny
model { n_layers = 2  d_model = 32  n_heads = 4  n_kv_heads = 2  d_big = 64  d_small = 16  max_seq = 48 }
data { tokens = "tokens.h5" }
stage duo { steps = 200  batch_size = 8  lr = 0.01  warmup = 5 }
stage router { steps = 10  batch_size = 8  budget = 1  warmup = 2 }
CONF
"$duo" train tiny.conf --checkpoints . >log 2>&1 || fail "$(tail -1 log)"
for policy in router big small pattern:SB; do
    whole=$("$duo" generate tiny --policy $policy --temperature 0 --prompt 'the king' --max-tokens 12)
    for words in 3 4 5; do
        prompt=$(echo "$whole" | head -1 | cut -d ' ' -f -$words)
        again=$("$duo" generate tiny --policy $policy --temperature 0 --prompt "$prompt" --max-tokens 12)
        case "$again" in
        "$whole"*) ;;
        *) fail "policy $policy: '$prompt' continues as '$again', as part of a text as '$whole'" ;;
        esac
    done
done

# Any model, here one of random weights.
"$make_checkpoint" random.h5 tokenizer=tokens.h5 modules=skip,small,big max_seq=400 || exit 1
"$duo" generate random.h5 --seed 3 --count 2 --show-routes >one 2>/dev/null
OMP_NUM_THREADS=2 "$duo" generate random.h5 --seed 3 --count 2 --show-routes >two 2>/dev/null
cmp one two || fail 'another text on another number of threads'
"$duo" generate random.h5 --seed 4 --count 2 --show-routes >two 2>/dev/null
cmp -s one two && fail 'the same text for another seed'
"$duo" generate random.h5 --temperature 0 >one
"$duo" generate random.h5 --temperature 1 --top-k 1 >two
cmp one two || fail 'the best of one is not the best'
"$duo" generate random.h5 --temperature 1000 --count 8 >one 2>/dev/null
iconv -f UTF-8 -t UTF-8 <one >/dev/null || fail 'not UTF-8'
printf 'the king' >prompt.txt
"$duo" generate random.h5 --prompt 'the king' >one
"$duo" generate random.h5 --prompt-file prompt.txt >two
cmp one two || fail 'a prompt in a file is another prompt'
grep -q '^the king' one || fail 'the prompt is not shown'

# Routes: two tokens of prompt behind the begin mark, seven more, the last of which is not read.
"$duo" generate random.h5 --prompt 'the king' --policy pattern:B- --max-tokens 7 --temperature 0 \
    --show-routes >out 2>err
[ "$(grep -c '^ *[0-9]*  B-  "' out)" = 9 ] || fail "routes: $(cat out)"
[ "$(grep -c '^ *[0-9]*      "' out)" = 1 ] || fail "routes: $(cat out)"
grep -qF 'shares: big 50.0 %, small 0.0 %, skip 50.0 %' out || fail "shares: $(tail -1 out)"
grep -q '^3 tokens of prompt, 1 x 7 generated in ' err || fail "$(cat err)"

# When the model's window is full, it goes on from the last half, and still knows where in a sentence
# it is: in a window that is wrong it would not.
go_on='the model sees 48 positions: it went on from the last half of them'
for policy in router small pattern:BS; do
    generates 0 "$go_on" tiny --prompt 'the king' --policy $policy --temperature 0.5 --max-tokens 600
    tr '.' '\n' <out | awk '
        BEGIN {
            split("the a one no every", a); for (i in a) kind[a[i]] = "d"
            split("king cat stone river ship child", a); for (i in a) kind[a[i]] = "n"
            split("sees takes loves breaks follows", a); for (i in a) kind[a[i]] = "v"
        }
        NF { n++; shape = ""; for (i = 1; i <= NF; i++) shape = shape kind[$i]; right += shape == "dnvdn" }
        END { exit !(n > 40 && right >= 0.9 * n) }' || fail "policy $policy: $(cat out)"
done
"$duo" generate tiny --max-tokens 300 --count 2 --show-routes >one 2>/dev/null
OMP_NUM_THREADS=2 "$duo" generate tiny --max-tokens 300 --count 2 --show-routes >two 2>/dev/null
cmp one two || fail 'beyond the window: another text on another number of threads'
[ "$(grep -c '^ *[0-9]*  [BS][BS]  "' one)" -ge 300 ] || fail "routes beyond the window: $(cat one)"
"$make_checkpoint" narrow.h5 tokenizer=tokens.h5 max_seq=1 || exit 1
generates 0 'the model sees 1 positions: it went on from the last half of them' narrow.h5 --max-tokens 9

# An end mark was drawn: at this temperature all tokens are equal.
"$make_checkpoint" long.h5 tokenizer=tokens.h5 max_seq=8192 || exit 1
generates 0 '' long.h5 --temperature 1000 --max-tokens 8000

generates 1 "duo: policy random:2: the share of big must be 0..1" random.h5 --policy random:2
generates 1 "duo: pattern 'B' has 1 letters, the model 2 layers" random.h5 --policy pattern:B
generates 1 'duo: policy router: the model has no routers' long.h5 --policy router
generates 2 "duo generate: --precision: 'fp8' is neither fp32 nor bf16" long.h5 --precision fp8
generates 1 'duo: missing.txt: No such file or directory' random.h5 --prompt-file missing.txt
generates 2 'duo generate: --prompt and --prompt-file exclude each other' \
    random.h5 --prompt a --prompt-file prompt.txt
"$duo" generate random.h5 --prompt-file text.txt >out 2>err
[ $? = 1 ] && grep -q 'the prompt is [0-9]* tokens long, random.h5 sees 400 positions' err ||
    fail "$(cat err)"

[ "$failures" = 0 ]
