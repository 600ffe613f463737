"""Trains the model of training.cpp in PyTorch, as a user would write it today, with torch.nn, scaled dot product attention
and the fused AdamW. On the CPU it runs eager and in fp32. On a GPU it is compiled, with bf16 autocast over fp32 weights and
cuDNN attention, and computes the loss in chunks if the vocabulary is large. Prints tokens/s, for comparison with
training.cpp's."""

import argparse
import contextlib
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

p = argparse.ArgumentParser()
for name, default in dict(threads=1, steps=10, hidden=128, layers=4, heads=4, ffn=352, rows=4, length=128,
                          microbatches=4, vocab=257, depths=2).items():
    p.add_argument(f"--{name}", type=int, default=default)
p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
p.add_argument("--compile", default="max-autotune-no-cudagraphs", help="torch.compile's mode on a GPU")
a = p.parse_args()
GPU = a.device == "cuda"
torch.set_float32_matmul_precision("high")
torch.set_num_threads(a.threads)
torch.manual_seed(0)
C, H, D, T = a.hidden, a.heads, a.depths, a.length
HS = C // H
angle = torch.outer(torch.arange(T).float(), 10000 ** (-torch.arange(0, HS, 2).float() / HS))
cos, sin = torch.cat([angle.cos()] * 2, -1).to(a.device), torch.cat([angle.sin()] * 2, -1).to(a.device)


def rope(x):
    x1, x2 = x.chunk(2, -1)
    return x * cos + torch.cat((-x2, x1), -1) * sin


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(C), nn.RMSNorm(C)
        self.qkv, self.o = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.gate_up, self.down = nn.Linear(C, 2 * a.ffn, bias=False), nn.Linear(a.ffn, C, bias=False)

    def forward(self, x):
        q, k, v = (t.view(-1, T, H, HS).transpose(1, 2) for t in self.qkv(self.n1(x)).chunk(3, -1))
        q, k = rope(q).to(v.dtype), rope(k).to(v.dtype)
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION) if GPU else contextlib.nullcontext():
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(x.shape))
        gate, up = self.gate_up(self.n2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.enorm, self.hnorm, self.norm = nn.RMSNorm(C), nn.RMSNorm(C), nn.RMSNorm(C)
        self.eh_proj, self.block = nn.Linear(2 * C, C, bias=False), Block()

    def forward(self, h, e):
        return self.norm(self.block(self.eh_proj(torch.cat([self.enorm(e), self.hnorm(h)], -1))))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(a.vocab, C), nn.Linear(C, a.vocab, bias=False)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(a.layers)), nn.RMSNorm(C)
        self.modules_ = nn.ModuleList(Module() for _ in range(D))

    def chunk_loss(self, h, target):
        return F.cross_entropy(self.head(h).float(), target, reduction="sum")

    def loss(self, h, target):
        h, target = h.flatten(0, 1), target.flatten()
        if a.vocab <= 65536:
            return self.chunk_loss(h, target) / target.numel()
        chunks = zip(h.chunk(8), target.chunk(8))
        return sum(checkpoint(self.chunk_loss, *chunk, use_reentrant=False) for chunk in chunks) / target.numel()

    def forward(self, tokens):
        h = self.embedding(tokens[:, :T])
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        loss = self.loss(h, tokens[:, 1 : T + 1])
        for k, module in enumerate(self.modules_, 1):
            h = module(h, self.embedding(tokens[:, k : T + k]))
            loss = loss + 0.3 / D * self.loss(h, tokens[:, k + 1 : T + k + 1])
        return loss


model = Model().to(a.device)
for weight in model.parameters():
    if weight.dim() > 1:
        nn.init.normal_(weight, std=0.02)
run = torch.compile(model, mode=a.compile) if GPU else model
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
data = torch.randint(0, a.vocab, (a.microbatches, a.rows, T + 1 + D)).to(a.device)
synchronize = torch.cuda.synchronize if GPU else lambda: None
seconds = []
for step in range(a.steps + 2):
    synchronize()
    start = time.perf_counter()
    for tokens in data:
        with torch.autocast(a.device, torch.bfloat16, enabled=GPU):
            loss = run(tokens)
        (loss / a.microbatches).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    synchronize()
    seconds.append(time.perf_counter() - start)
median = sorted(seconds[2:])[len(seconds[2:]) // 2]
where = f"compiled on {torch.cuda.get_device_name()}" if GPU else f"eager, {a.threads} thread(s)"
print(f"torch {torch.__version__} {where}: {median * 1e3:.1f} ms a step, "
      f"{data.shape[0] * a.rows * T / median:.0f} tokens/s"
      + (f", memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if GPU else ""))
