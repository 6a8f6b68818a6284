#!/usr/bin/python3
"""A training step of the model that `duo bench` measures by default, in PyTorch: tokens per second.

Llama style: RMSNorm, rotary positions, SwiGLU, tied embeddings, AdamW, clipping. --duo routes every
token of every layer at random to a big or a small FFN, gathered by index_select and added back by
index_add. Prints the median of the steps after two that warm up, or of those that the time allows.
"""
import argparse
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

B, T, LAYERS, C, HEADS, BIG, SMALL, V = 16, 256, 8, 256, 8, 1024, 64, 4096
D = C // HEADS
WARM_UP = 2


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(C))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.gain


class FFN(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Linear(C, width, bias=False)
        self.up = nn.Linear(C, width, bias=False)
        self.down = nn.Linear(width, C, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


def rotate(x, cos, sin):
    a, b = x[..., : D // 2], x[..., D // 2 :]
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Layer(nn.Module):
    def __init__(self, duo):
        super().__init__()
        self.attention_norm, self.ffn_norm = Norm(), Norm()
        self.qkv = nn.Linear(C, 3 * C, bias=False)
        self.out = nn.Linear(C, C, bias=False)
        self.big = FFN(BIG)
        self.small = FFN(SMALL) if duo else None

    def attend(self, x, cos, sin, mask):
        heads = [t.view(B, T, HEADS, D).transpose(1, 2) for t in self.qkv(x).split(C, 2)]
        q, k, v = rotate(heads[0], cos, sin), rotate(heads[1], cos, sin), heads[2]
        weights = F.softmax(q @ k.transpose(-2, -1) / math.sqrt(D) + mask, -1)
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).reshape(B, T, C))

    def forward(self, x, cos, sin, mask):
        x = x + self.attend(self.attention_norm(x), cos, sin, mask)
        h = self.ffn_norm(x)
        if self.small is None:
            return x + self.big(h)
        rows = h.reshape(-1, C)
        big = torch.rand(B * T) < 0.5
        y = torch.zeros_like(rows)
        for ffn, taken in ((self.big, big), (self.small, ~big)):
            index = taken.nonzero().view(-1)
            y = y.index_add(0, index, ffn(rows.index_select(0, index)).to(y.dtype))
        return x + y.view(B, T, C)


class Model(nn.Module):
    def __init__(self, duo):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.layers = nn.ModuleList(Layer(duo) for _ in range(LAYERS))
        self.norm = Norm()
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, 0, 0.02)
        angles = torch.outer(torch.arange(T), 1e4 ** (-torch.arange(0, D, 2) / D))
        self.cos, self.sin = angles.cos(), angles.sin()
        self.mask = torch.full((T, T), float("-inf")).triu(1)

    def forward(self, inputs, targets):
        x = self.embedding(inputs)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, self.mask)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.float().view(-1, V), targets.view(-1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--duo", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Model(args.duo)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    seconds, begin = [], time.perf_counter()
    for _ in range(WARM_UP + args.steps):
        if len(seconds) > WARM_UP and time.perf_counter() - begin > args.seconds:
            break
        tokens = torch.randint(0, V, (B, T + 1))
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            loss = model(tokens[:, :-1], tokens[:, 1:].contiguous())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds[WARM_UP:])
    print(f"{B * T / seconds[len(seconds) // 2]:.6g}")


if __name__ == "__main__":
    main()
