#!/usr/bin/env bash
# The dense model inside of a Duo model, written for Hugging Face's library, is a Llama in its
# conventions, held here against plain numpy; and comes back to the last bit.
# Usage: llama_weights.sh DUO TOOL
set -euo pipefail
duo=$1 tool=$(realpath "$2") python=${PYTHON:-/usr/bin/python3}
. "$(dirname "$0")/tiny_run.sh"
"$python" -c 'import h5py, numpy' 2>/dev/null || skip "$python has no h5py or no numpy"

export OMP_NUM_THREADS=1
enter_scratch
make_tokens
make_recipe 2 1 2 1 1
for tied in true false; do
    quietly train tiny.conf --checkpoints "$tied" --set "model.tied_embeddings=$tied"
    model=$tied/tiny/stage-duo.h5
    probe=(--rows 2 --seq-len 20 --logits --routes big --tokens tokens.h5)
    quietly probe "$model" "${probe[@]}" --output "$tied.h5"
    "$python" "$tool" export "$model" "$tied.hf" >export.log || fail 'export'
    "$python" - "$tied.hf" "$tied.h5" <<'END' || fail "tied $tied: another model"
import json, struct, sys
import h5py, numpy as np

folder, probe = sys.argv[1:]
raw = open(folder + "/model.safetensors", "rb").read()
(length,) = struct.unpack("<Q", raw[:8])
w = {name: np.frombuffer(raw, "<f4", (t["data_offsets"][1] - t["data_offsets"][0]) // 4,
                         8 + length + t["data_offsets"][0]).reshape(t["shape"]).astype("f8")
     for name, t in json.loads(raw[8:8 + length]).items()}
c = json.load(open(folder + "/config.json"))
H, Hkv, C = c["num_attention_heads"], c["num_key_value_heads"], c["hidden_size"]
D = C // H
with h5py.File(probe) as file:
    tokens, wanted = file["tokens"][:, :-1], file["logits"][...]
T = tokens.shape[1]
angle = np.outer(np.arange(T), c["rope_theta"] ** (-np.arange(0, D, 2) / D))
cos, sin = (np.concatenate([f(angle), f(angle)], -1) for f in (np.cos, np.sin))

def norm(x, g):
    return g * x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"])

def heads(x, n):
    return x.reshape(*x.shape[:2], n, D).swapaxes(1, 2)

def rotate(x):
    half = np.concatenate([-x[..., D // 2:], x[..., :D // 2]], -1)
    return x * cos + half * sin

x = w["model.embed_tokens.weight"][tokens]
for layer in range(c["num_hidden_layers"]):
    p = f"model.layers.{layer}."
    h = norm(x, w[p + "input_layernorm.weight"])
    q, k, v = (heads(h @ w[p + f"self_attn.{n}_proj.weight"].T, m)
               for n, m in (("q", H), ("k", Hkv), ("v", Hkv)))
    k, v = np.repeat(rotate(k), H // Hkv, 1), np.repeat(v, H // Hkv, 1)
    score = rotate(q) @ k.swapaxes(-1, -2) / np.sqrt(D)
    score = np.where(np.tri(T, dtype=bool), score, -np.inf)
    share = np.exp(score - score.max(-1, keepdims=True))
    att = (share / share.sum(-1, keepdims=True)) @ v
    x = x + att.swapaxes(1, 2).reshape(x.shape) @ w[p + "self_attn.o_proj.weight"].T
    h = norm(x, w[p + "post_attention_layernorm.weight"])
    gate = h @ w[p + "mlp.gate_proj.weight"].T
    x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "mlp.up_proj.weight"].T)) @ \
        w[p + "mlp.down_proj.weight"].T
x = norm(x, w["model.norm.weight"])
tied = c["tie_word_embeddings"]
got = x @ w["model.embed_tokens.weight" if tied else "lm_head.weight"].T
worst = np.abs(got - wanted.reshape(got.shape)).max()
sys.exit(f"logits are off by {worst}" if not worst < 1e-4 else 0)
END
    # Into another model of these sizes, whose big FFNs and attention are then the first one's.
    quietly train tiny.conf --checkpoints "$tied.other" --set "model.tied_embeddings=$tied" --set seed=2
    "$python" "$tool" import "$tied.other/tiny/stage-duo.h5" "$tied.hf" back.h5 "$duo" ||
        fail 'import'
    quietly probe back.h5 "${probe[@]}" --output back.probe.h5
    for file in "$tied.h5" back.probe.h5; do "$duo" inspect "$file" --values /logits >"$file.txt"; done
    cmp "$tied.h5.txt" back.probe.h5.txt || fail "tied $tied: it comes back as another model"
    "$duo" inspect back.h5 >inspect.log || fail "inspect: $(tail -1 inspect.log)"
    rm back.h5 back.probe.h5
done
cp -r true.hf other.hf
sed -i 's/"rope_theta": 10000.0/"rope_theta": 500000.0/' other.hf/config.json
"$python" "$tool" import true/tiny/stage-duo.h5 other.hf back.h5 "$duo" 2>err.log && fail 'another theta'
grep -q 'rope_theta is 500000.0, the checkpoint.s is 10000.0' err.log || fail "theta: $(cat err.log)"
"$python" "$tool" import true/tiny/stage-duo.h5 false.hf back.h5 "$duo" 2>err.log && fail 'untied'
grep -q 'tie_word_embeddings is False' err.log || fail "untied: $(cat err.log)"
rm false.hf/config.json
"$python" "$tool" import true/tiny/stage-duo.h5 false.hf back.h5 "$duo" 2>err.log && fail 'a head'
grep -q 'lm_head.weight has no place' err.log || fail "a head: $(cat err.log)"

# Files of strangers: one line that names the file, nothing left.
cp true.hf/model.safetensors good.safetensors
bad_file() {
    "$python" - "$1" <<'END' || fail "no bad file: $1"
import json, struct, sys
data = open("good.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header, rest = json.loads(data[8:8 + n]), data[8 + n:]
first = header["model.embed_tokens.weight"]
exec(sys.argv[1])
text = text if "text" in dir() else json.dumps(header).encode()
out = (struct.pack("<Q", length if "length" in dir() else len(text)) + text + rest)
open("true.hf/model.safetensors", "wb").write(out[:cut] if "cut" in dir() else out)
END
    (ulimit -v 4000000; OPENBLAS_NUM_THREADS=1 "$python" "$tool" import true/tiny/stage-duo.h5 true.hf back.h5 "$duo") 2>err.log &&
        fail "taken: $1"
    [ "$(wc -l <err.log)" = 1 ] && grep -qF -e "llama_weights: true.hf/model.safetensors: $2" err.log ||
        fail "$1: $(cat err.log)"
}
bad_file 'cut = 0' 'is no safetensors file: its header does not fit'
bad_file 'cut = 7' 'is no safetensors file: its header does not fit'
bad_file 'cut = 40' 'is no safetensors file: its header does not fit'
bad_file 'length = 1 << 60' 'is no safetensors file: its header does not fit'
bad_file 'text = b"[" * 100000' 'is no safetensors file: its header is not JSON'
bad_file 'text = b"[1, 2]"' 'is no safetensors file: its header is not JSON'
bad_file 'text = bytes([0xff] * 9)' 'is no safetensors file: its header is not JSON'
bad_file 'header["model.embed_tokens.weight"] = 3' 'model.embed_tokens.weight lacks a type'
bad_file 'first["shape"] = [-1, 4]' 'model.embed_tokens.weight lacks a type'
bad_file 'first["shape"] = [1 << 40, 1 << 40]' 'model.embed_tokens.weight has '
bad_file 'first["data_offsets"] = [0, 1 << 50]' 'model.embed_tokens.weight lies outside the file'
bad_file 'first["data_offsets"].reverse()' 'model.embed_tokens.weight lies outside the file'
bad_file 'first["data_offsets"][1] -= 4' 'model.embed_tokens.weight has '
bad_file 'first["dtype"] = "I8"' 'model.embed_tokens.weight is I8, not one of'
rm true.hf/model.safetensors
"$python" "$tool" import true/tiny/stage-duo.h5 true.hf back.h5 "$duo" 2>err.log && fail 'no tensors'
grep -q 'no tensor model.embed_tokens.weight' err.log || fail "no tensors: $(cat err.log)"
[ ! -e back.h5 ] && [ -z "$(find . -name '*.edited')" ] || fail 'half an import is left'
echo 'llama_weights: the same logits as plain numpy, and back to the last bit'
