"""Decodes with the trunk of decoding.cpp's model in PyTorch, as a user would write it today, with a static cache of keys
and values. On a GPU it runs in bf16: eager, replayed as a CUDA graph, and compiled (which also replays). On the CPU it
runs in fp32, eager and compiled. A step computes `rows` new tokens of each sequence and copies the likeliest next tokens
to the host. Prints tokens/s by number of rows, for comparison with decoding.cpp's."""

import argparse
import time

import torch
import torch.nn.functional as F
from torch import nn

p = argparse.ArgumentParser()
for name, default in dict(threads=1, steps=30, hidden=128, layers=4, heads=4, kv_heads=0, ffn=352, vocab=257, batch=1,
                          prompt=512).items():
    p.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
p.add_argument("--rows", default="1,2,4,8", type=lambda text: [int(rows) for rows in text.split(",")])
p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
a = p.parse_args()
GPU = a.device == "cuda"
torch.set_num_threads(a.threads)
torch.set_grad_enabled(False)
torch.set_default_device(a.device)
torch.set_default_dtype(torch.bfloat16 if GPU else torch.float32)
torch.manual_seed(0)
C, H, KV, P = a.hidden, a.heads, a.kv_heads or a.heads, a.prompt + max(a.rows) + 1
HS = C // H
angle = torch.outer(torch.arange(P).float(), 10000 ** (-torch.arange(0, HS, 2).float() / HS))
COS, SIN = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
ALL_PLACES = torch.arange(P)


def rope(x, places):
    x1, x2 = x.chunk(2, -1)
    return (x * COS[places] + torch.cat((-x2, x1), -1) * SIN[places]).to(x.dtype)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(C), nn.RMSNorm(C)
        self.qkv, self.o = nn.Linear(C, (H + 2 * KV) * HS, bias=False), nn.Linear(C, C, bias=False)
        self.gate_up, self.down = nn.Linear(C, 2 * a.ffn, bias=False), nn.Linear(a.ffn, C, bias=False)
        self.register_buffer("keys", torch.randn(a.batch, KV, P, HS))
        self.register_buffer("values", torch.randn(a.batch, KV, P, HS))

    def forward(self, x, places, mask):
        heads = self.qkv(self.n1(x)).view(*x.shape[:2], H + 2 * KV, HS).transpose(1, 2)
        q, k, v = heads.split([H, KV, KV], 1)
        self.keys.index_copy_(2, places, rope(k, places))
        self.values.index_copy_(2, places, v)
        y = F.scaled_dot_product_attention(rope(q, places), self.keys, self.values, attn_mask=mask, enable_gqa=H != KV)
        x = x + self.o(y.transpose(1, 2).reshape(x.shape))
        gate, up = self.gate_up(self.n2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(a.vocab, C), nn.Linear(C, a.vocab, bias=False)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(a.layers)), nn.RMSNorm(C)

    def forward(self, tokens, places):
        x = self.embedding(tokens)
        mask = ALL_PLACES[None, :] <= places[:, None]
        for block in self.blocks:
            x = block(x, places, mask)
        return self.head(self.norm(x)).float().argmax(-1)


def median_seconds(step):
    spent = []
    for _ in range(a.steps + 3):
        start = time.perf_counter()
        step()
        spent.append(time.perf_counter() - start)
    return sorted(spent[3:])[a.steps // 2]


def graphed(model, tokens, places):
    """Returns a CUDA graph of the model on these tensors, captured after warm-up runs."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            model(tokens, places)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = model(tokens, places)

    def run():
        graph.replay()
        return out

    return run


model = Model().eval()
for weight in model.parameters():
    if weight.dim() > 1:
        nn.init.normal_(weight, std=0.02)
compiled = torch.compile(model, mode="reduce-overhead" if GPU else "default", dynamic=False)
where = torch.cuda.get_device_name() + ", bf16" if GPU else f"{a.threads} thread(s), fp32"
print(f"torch {torch.__version__} on {where}: tokens/s of {a.batch} sequence(s) after {a.prompt} tokens")
print("  rows" + "".join(f" {kind:>10}" for kind in (["eager", "graph", "compiled"] if GPU else ["eager", "compiled"])))
for rows in a.rows:
    tokens, host = torch.randint(0, a.vocab, (a.batch, rows)), torch.randint(0, a.vocab, (a.batch, rows), device="cpu")
    places = torch.arange(a.prompt, a.prompt + rows)
    kinds = [lambda: model(tokens, places)]
    if GPU:
        kinds.append(graphed(model, tokens, places))
    kinds.append(lambda: compiled(tokens, places))

    def step(run):
        tokens.copy_(host)
        return run().cpu()

    rates = [a.batch * rows / median_seconds(lambda: step(run)) for run in kinds]
    print(f"  {rows:>4}" + "".join(f" {rate:>10.0f}" for rate in rates), flush=True)
