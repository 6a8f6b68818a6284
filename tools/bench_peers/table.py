#!/usr/bin/python3
"""The table of bench_peers.sh from the folder of its results."""
import json
import os
import sys
from statistics import median

folder = sys.argv[1]
THREADS, ROUNDS = (1, 2), (1, 2, 3)


def read(name):
    path = os.path.join(folder, name)
    return open(path).read() if os.path.exists(path) else None


def why_missing(peer):
    return (read(peer + ".missing") or "failed").strip()


def duo_rows(name):
    text = read(f"duo-{name}.json")
    return json.loads(text)["rows"] if text else []


def library_rates(name, threads):
    text = read(f"{name}-{threads}.tsv")
    rates = {}
    for line in (text or "").splitlines():
        product, shape, precision, rate = line.split("\t")
        rates[product, shape, precision] = float(rate)
    return rates


def cell(rate):
    return f"{rate:9.1f}" if rate else f"{'-':>9}"


def products():
    print("Matrix products of linear layers, GFLOP/s; shape: rows x outputs x inputs of the layer.")
    print("Duo packed: weights packed once, as in a step. Where there are both, share and")
    print("ratio are of packed. Ratio: over the better library.")
    print(f"\n{'':36}{'Duo':>9}{'packed':>9}{'% peak':>8}{'oneDNN':>9}{'OpenBLAS':>9}{'ratio':>7}")
    for threads in THREADS:
        libraries = {n: library_rates(n, threads) for n in ("onednn", "openblas", "onednn_bf16")}
        plain, packed, order, limits = {}, {}, [], ({}, {})
        for row in duo_rows(f"kernels-{threads}"):
            words = row["name"].split()
            shape = next(w for w in words if w.count("x") == 2)
            product = row["name"][: row["name"].index(shape)].strip()
            key = (product, shape, row["precision"])
            kind = packed if words[-1] == "packed" else plain
            if words[-1] == "routed":
                continue
            kind[key] = row["value"]
            limits[kind is packed][key] = row["limit"] if row["limit_name"] == "peak" else None
            if key not in order:
                order.append(key)
        for precision in ("fp32", "bf16"):
            keys = [k for k in order if k[2] == precision]
            if keys:
                print(f"{threads} thread{'s' if threads > 1 else ''}, {precision}")
            for key in keys:
                onednn = libraries["onednn" if precision == "fp32" else "onednn_bf16"].get(key)
                openblas = libraries["openblas"].get(key)
                ours = packed.get(key, plain.get(key))
                peak = limits[key in packed][key]
                best = max(onednn or 0, openblas or 0)
                share = f"{100 * ours / peak:8.1f}" if peak else f"{'':8}"
                ratio = f"{ours / best:7.2f}" if best else f"{'-':>7}"
                print(f"  {key[0]:13}{key[1]:21}{cell(plain.get(key))}{cell(packed.get(key))}{share}"
                      f"{cell(onednn)}{cell(openblas)}{ratio}")
    for peer in ("onednn", "openblas", "onednn_bf16"):
        if not any(library_rates(peer, t) for t in THREADS):
            print(f"{peer}: {why_missing(peer)}")


def duo_step(name):
    rows = [row for row in duo_rows(name) if "tokens_per_s" in row]
    return rows[0] if rows else None


def steps():
    print("\nTraining step, tokens/s: 8 layers of width 256, FFN 1024 (duo: and 64, half of the tokens")
    print("each, at random), vocabulary 4096 tied, batches of 16 x 256, AdamW, clipping. Duo and PyTorch")
    print("in turns, three rounds of three steps: medians, and the range of the rounds' ratios.")
    print(f"\n{'':36}{'Duo':>9}{'% peak':>8}{'PyTorch':>9}{'ratio':>7}")
    for precision in ("fp32", "bf16"):
        for kind in ("dense", "duo"):
            for threads in THREADS:
                case = f"{kind}-{precision}-{threads}"
                rounds = [(duo_step(f"{case}-{r}"), read(f"torch-{case}-{r}")) for r in ROUNDS]
                rounds = [(ours, float(theirs) if theirs else None) for ours, theirs in rounds if ours]
                if not rounds:
                    continue
                rate = median(ours["tokens_per_s"] for ours, _ in rounds)
                share = median(ours["value"] / ours["limit"] for ours, _ in rounds)
                pairs = [(ours["tokens_per_s"], theirs) for ours, theirs in rounds if theirs]
                name = f"{kind}, {precision}, {threads} thread{'s' if threads > 1 else ''}"
                print(f"  {name:34}{rate:9.0f}{100 * share:8.1f}", end="")
                if pairs:
                    ratios = sorted(ours / theirs for ours, theirs in pairs)
                    print(f"{median(theirs for _, theirs in pairs):9.0f}{median(ratios):7.2f}"
                          f"   {ratios[0]:.2f}-{ratios[-1]:.2f}")
                else:
                    print(f"{'-':>9}{'-':>7}")
    for precision in ("fp32", "bf16"):
        if not any(read(f"torch-dense-{precision}-{t}-1") for t in THREADS):
            print(f"PyTorch, {precision}: {why_missing('torch-' + precision)}")


machine = json.loads(read("duo-kernels-1.json"))["machine"]
print(f"{machine['processor']}, {machine['processors']} processors, Duo with {machine['isa']}; "
      f"load before: {machine.get('load', 0):.2f}")
print((read("versions") or "").strip() + "\n")
products()
steps()
