#!/usr/bin/env python3
"""The dense Llama inside of a Duo model, to and from Hugging Face's safetensors.

    tools/llama_weights.py export CHECKPOINT.h5 FOLDER
    tools/llama_weights.py import CHECKPOINT.h5 FOLDER OUTPUT.h5 [DUO]

Export writes FOLDER/model.safetensors and FOLDER/config.json: attention, norms, embeddings and the
big FFNs, in float32. Import takes the same tensors of FOLDER/*.safetensors (float32, float16 or
bfloat16) over into a copy of a checkpoint of the same sizes, whose small FFNs and routers stay, and
seals it with the program DUO; `init = OUTPUT.h5` in a recipe starts from it. The token file must be
made with the model's own SentencePiece tokenizer: duo prepare --tokenizer tokenizer.model.

Duo turns neighbouring channels by a position's angle, Hugging Face the two halves of a head: rows of
queries and keys change their places.
"""
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys

import h5py
import numpy as np

TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def names(group):
    """Ours, theirs, and by what number of heads the rows are turned, or 0."""
    size = group.attrs
    yield "tok_emb", "model.embed_tokens.weight", 0
    yield "final_norm/weight", "model.norm.weight", 0
    if not size["tied_embeddings"]:
        yield "lm_head", "lm_head.weight", 0
    for layer in range(int(size["n_layers"])):
        ours, theirs = f"layers/{layer:02}/", f"model.layers.{layer}."
        yield ours + "attn_norm/weight", theirs + "input_layernorm.weight", 0
        yield ours + "ffn_norm/weight", theirs + "post_attention_layernorm.weight", 0
        for part, heads in ("q", "n_heads"), ("k", "n_kv_heads"), ("v", None), ("o", None):
            yield (ours + f"attn/{part}/weight", theirs + f"self_attn.{part}_proj.weight",
                   int(size[heads]) if heads else 0)
        for part in "gate", "up", "down":
            yield ours + f"big/{part}/weight", theirs + f"mlp.{part}_proj.weight", 0


def turned(rows, heads, to_halves):
    """Rows of heads: neighbouring channels become those of two halves, or the other way round."""
    half = rows.shape[0] // heads // 2
    shape = (heads, half, 2, -1) if to_halves else (heads, 2, half, -1)
    return rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape)


def export(checkpoint, folder):
    header, blobs, at = {}, [], 0
    with h5py.File(checkpoint, "r") as file:
        group = file["model"]
        for ours, theirs, heads in names(group):
            tensor = group[ours][...]
            if heads:
                tensor = turned(tensor, heads, True)
            blob = np.ascontiguousarray(tensor, "<f4").tobytes()
            header[theirs] = {"dtype": "F32", "shape": tensor.shape,
                              "data_offsets": [at, at + len(blob)]}
            blobs.append(blob)
            at += len(blob)
        size = {key: value.item() if hasattr(value, "item") else value
                for key, value in group.attrs.items()}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.writelines(blobs)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "torch_dtype": "float32", "hidden_size": size["d_model"],
        "intermediate_size": size["d_big"], "num_hidden_layers": size["n_layers"],
        "num_attention_heads": size["n_heads"], "num_key_value_heads": size["n_kv_heads"],
        "max_position_embeddings": size["max_seq"], "vocab_size": size["vocab_size"],
        "rms_norm_eps": size["norm_eps"], "rope_theta": size["rope_theta"],
        "tie_word_embeddings": bool(size["tied_embeddings"]), "bos_token_id": 1,
        "eos_token_id": 2}, indent=2) + "\n")
    print(f"{folder}: {len(header)} tensors")


def bad(path, what):
    sys.exit(f"llama_weights: {path}: {what}")


def is_sizes(value, n=None):
    return isinstance(value, list) and n in (None, len(value)) and \
        all(type(size) is int and 0 <= size < 1 << 60 for size in value)


def read_header(path):
    """The tensors that a file says it has, each within the file, and where its data begins."""
    room = path.stat().st_size - 8
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if room >= 0 else 0
        if not 2 <= length <= min(room, 100 << 20):
            bad(path, "is no safetensors file: its header does not fit")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        bad(path, "is no safetensors file: its header is not JSON")
    header.pop("__metadata__", None)
    for name, about in header.items():
        if not isinstance(about, dict) or not is_sizes(about.get("shape")) or \
                not is_sizes(about.get("data_offsets"), 2) or not isinstance(about.get("dtype"), str):
            bad(path, f"{name} lacks a type, a shape or its place")
        if not about["data_offsets"][0] <= about["data_offsets"][1] <= room - length:
            bad(path, f"{name} lies outside the file")
    return header, 8 + length


def read_tensors(folder):
    """All tensors of a folder by name, read when they are asked for."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        header, base = read_header(path)
        for name, about in header.items():
            if name in found:
                bad(path, f"{name} is in {found[name][0]} too")
            found[name] = (path, base, about)
    return found


def tensor_of(found, name):
    if name not in found:
        sys.exit(f"llama_weights: no tensor {name} in the folder's safetensors")
    path, base, about = found[name]
    if about["dtype"] not in TYPES:
        bad(path, f"{name} is {about['dtype']}, not one of {', '.join(TYPES)}")
    begin, end = about["data_offsets"]
    if math.prod(about["shape"]) * np.dtype(TYPES[about["dtype"]]).itemsize != end - begin:
        bad(path, f"{name} has {end - begin} bytes for a shape of {about['shape']}")
    raw = np.fromfile(path, TYPES[about["dtype"]], offset=base + begin,
                      count=(end - begin) // np.dtype(TYPES[about["dtype"]]).itemsize)
    if about["dtype"] == "BF16":
        raw = (raw.astype("<u4") << 16).view("<f4")
    return raw.astype("<f4").reshape(about["shape"])


def check_config(folder, size):
    """What shapes do not tell."""
    path = folder / "config.json"
    if not path.exists():
        return
    config = json.loads(path.read_text())
    wanted = {"num_attention_heads": size["n_heads"], "rms_norm_eps": size["norm_eps"],
              "num_key_value_heads": size["n_kv_heads"], "rope_theta": size["rope_theta"],
              "tie_word_embeddings": bool(size["tied_embeddings"]), "hidden_act": "silu",
              "rope_scaling": None, "attention_bias": False, "mlp_bias": False}
    absent = {"num_key_value_heads": config.get("num_attention_heads"), "rope_theta": 10000.0,
              "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
    for key, value in wanted.items():
        theirs = config.get(key, absent.get(key, value))
        same = abs(theirs - value) <= 1e-6 * abs(value) if isinstance(value, float) else theirs == value
        if not same:
            sys.exit(f"llama_weights: {path}: {key} is {theirs}, the checkpoint's is {value}")


def import_weights(checkpoint, folder, output, duo):
    if output.exists():
        sys.exit(f"llama_weights: {output}: is there already")
    found = read_tensors(folder)
    edited = output.with_name(output.name + ".edited")
    shutil.copyfile(checkpoint, edited)
    try:
        with h5py.File(edited, "r+") as file:
            group = file["model"]
            check_config(folder, {key: value.item() if hasattr(value, "item") else value
                                  for key, value in group.attrs.items()})
            known = {theirs for _, theirs, _ in names(group)}
            extra = [name for name in found if name not in known and "inv_freq" not in name]
            if extra:
                sys.exit(f"llama_weights: {found[extra[0]][0]}: {extra[0]} has no place in the model")
            for ours, theirs, heads in names(group):
                tensor, wanted = tensor_of(found, theirs), group[ours].shape
                if tensor.shape != wanted:
                    sys.exit(f"llama_weights: {theirs} is {tensor.shape}, {checkpoint} has {wanted}")
                group[ours][...] = turned(tensor, heads, False) if heads else tensor
            file.attrs.pop("model_hash", None)  # that of the weights before
        sys.exit(subprocess.run([duo, "seal", edited, output]).returncode)
    finally:
        edited.unlink()


def main(arguments):
    paths = [pathlib.Path(argument) for argument in arguments[1:]]
    if arguments[:1] == ["export"] and len(paths) == 2:
        export(*paths)
    elif arguments[:1] == ["import"] and len(paths) in (3, 4):
        default = pathlib.Path(__file__).parent.parent / "build/src/cli/duo"
        import_weights(*paths[:3], paths[3] if len(paths) == 4 else default)
    else:
        print(__doc__, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
