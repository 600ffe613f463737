"""Makes model_golden.h5: logits, losses and gradients of small models with each kind of prediction heads, by PyTorch and the
Llama layers of Hugging Face's transformers, so that tests/model/golden_test.cpp compares with an independent
implementation.

Run by hand:  pip install torch transformers h5py;  python make_model_golden.py model_golden.h5
"""

import sys

import h5py
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

B, T, V, C, L = 2, 12, 11, 8, 2
LAMBDA = 0.6


class SequentialHead(nn.Module):
    """One DeepSeek-V3 MTP module around a Llama decoder layer."""

    def __init__(self, config, layer):
        super().__init__()
        self.enorm = LlamaRMSNorm(C, config.rms_norm_eps)
        self.hnorm = LlamaRMSNorm(C, config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * C, C, bias=False)
        self.layer = LlamaDecoderLayer(config, layer)
        self.norm = LlamaRMSNorm(C, config.rms_norm_eps)

    def names(self, prefix):
        """Foretoken's name of every parameter."""
        for name, parameter in self.named_parameters():
            if name.startswith("layer."):
                name = name.removeprefix("layer.")
            elif name == "norm.weight":
                name = "shared_head.norm.weight"
            yield f"{prefix}.{name}", parameter


class ParallelHead(nn.Module):
    """Gloeckle et al.'s head: a decoder layer on what the trunk's last layer takes."""

    def __init__(self, config, layer):
        super().__init__()
        self.layer = LlamaDecoderLayer(config, layer)

    def names(self, prefix):
        for name, parameter in self.layer.named_parameters():
            yield f"{prefix}.{name}", parameter


class ResidualHead(nn.Module):
    """A step embedding and a residual MLP, or Medusa's residual block."""

    def __init__(self, config, form):
        super().__init__()
        if form == "medusa":
            self.fc1 = nn.Linear(C, C, bias=False)
        else:
            self.step_embedding = nn.Parameter(torch.empty(C))
            self.fc1 = nn.Linear(C, config.intermediate_size, bias=False)
            self.fc2 = nn.Linear(config.intermediate_size, C, bias=False)
        self.form = form

    def forward(self, hidden):
        if self.form == "medusa":
            return hidden + F.silu(self.fc1(hidden))
        hidden = hidden + self.step_embedding
        return hidden + self.fc2(F.gelu(self.fc1(hidden)))

    def names(self, prefix):
        for name, parameter in self.named_parameters():
            yield f"{prefix}.{name}" + (".weight" if name == "step_embedding" else ""), parameter


class LinearHead(nn.Module):
    """An output matrix of its own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(C, V, bias=False)

    def names(self, prefix):
        yield f"{prefix}.head.weight", self.head.weight


def mask(document_start, within_documents):
    """[B, 1, T, T] additive: causal, and within the document where asked for."""
    position = torch.arange(T)
    allowed = position[None, None, :] <= position[None, :, None]
    if within_documents:
        allowed = allowed & (position[None, None, :] >= document_start[:, :T, None])
    allowed = allowed.expand(B, T, T)
    return torch.zeros(B, 1, T, T).masked_fill(~allowed[:, None], float("-inf"))


def rounding_noise(modules, parameters, step, exact):
    """What rounding to bf16 does to every object of this model: the largest relative error over 200 steps with weights in
    bf16 and the output of every layer off by up to 2^-8 of itself, bf16's largest rounding error."""
    def relative(actual, expected):
        return ((actual - expected).norm() / expected.norm()).item()

    generator = torch.Generator().manual_seed(1)

    def off(x):
        return x * (1 + (2 * torch.rand(x.shape, generator=generator) - 1) * 2**-8)

    def hook(module, inputs, output):
        return tuple(map(off, output)) if isinstance(output, tuple) else off(output)

    for parameter in parameters:
        parameter.data = parameter.data.bfloat16().float()
    kinds = (nn.Linear, nn.Embedding, LlamaRMSNorm, LlamaDecoderLayer)
    for module in (m for each in modules for m in each.modules() if isinstance(m, kinds)):
        module.register_forward_hook(hook)
    largest = dict.fromkeys(exact, 0.0)
    for _ in range(200):
        for name, value in step().items():
            largest[name] = max(largest[name], relative(value, exact[name]))
    return largest


def case(file, name, *, kind="sequential", depths, tied=False, repeat=False, concat="embedding_first",
         trunk_hidden="normed", recycled_hidden="normed", residual_form="mlp", within_documents, seed=None):
    torch.manual_seed(seed or len(name))
    config = LlamaConfig(hidden_size=C, num_hidden_layers=L, num_attention_heads=4, num_key_value_heads=2, head_dim=4,
                         intermediate_size=12, vocab_size=V, rms_norm_eps=1e-5, rope_theta=10000.0,
                         tie_word_embeddings=tied, attn_implementation="eager")
    model = LlamaForCausalLM(config)
    make = {"sequential": lambda k: SequentialHead(config, L + k), "parallel": lambda k: ParallelHead(config, L + k),
            "residual": lambda k: ResidualHead(config, residual_form), "linear": lambda k: LinearHead()}[kind]
    modules = nn.ModuleList(make(k) for k in range(1 if repeat else depths))
    for parameter in [*model.parameters(), *modules.parameters()]:
        nn.init.normal_(parameter, std=0.4)

    tokens = torch.randint(0, V, (B, T + 1 + depths))
    document_start = torch.zeros_like(tokens)
    document_start[0, 5:] = 5
    document_start[1, 9:] = 9

    rotary = LlamaRotaryEmbedding(config)
    attention_mask = mask(document_start, within_documents)
    position = torch.arange(T)[None].expand(B, T)
    parameters = dict(model.named_parameters())
    for k, module in enumerate(modules):
        parameters |= dict(module.names(f"model.layers.{L + k}"))
    weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def run(layer, x, rope):
        out = layer(x, attention_mask=attention_mask, position_ids=position, position_embeddings=rope)
        return out[0] if isinstance(out, tuple) else out

    def head_loss(hidden, depth, output=model.lm_head):
        logits = output(hidden)
        target = tokens[:, depth + 1 : depth + 1 + T]
        valid = document_start[:, depth + 1 : depth + 1 + T] == document_start[:, :T]
        return logits, F.cross_entropy(logits[valid], target[valid])

    def step():
        """Losses, logits by depth, gradients by name."""
        # Decoder layers one by one: LlamaModel's own output is normed, and some conventions need the raw one.
        raw = model.model.embed_tokens(tokens[:, :T])
        rope = rotary(raw, position)
        for layer in model.model.layers:
            last_input, raw = raw, run(layer, raw, rope)
        normed = model.model.norm(raw)

        outputs = [head_loss(normed, 0)]
        trunk_normed = normed
        for depth in range(1, depths + 1):
            head = modules[0 if repeat else depth - 1]
            if kind == "sequential":
                convention = trunk_hidden if depth == 1 else recycled_hidden
                embedded = head.enorm(model.model.embed_tokens(tokens[:, depth : depth + T]))
                hidden = head.hnorm(normed if convention == "normed" else raw)
                halves = [embedded, hidden] if concat == "embedding_first" else [hidden, embedded]
                raw = run(head.layer, head.eh_proj(torch.cat(halves, -1)), rope)
                normed = head.norm(raw)
                outputs.append(head_loss(normed, depth))
            elif kind == "parallel":
                outputs.append(head_loss(model.model.norm(run(head.layer, last_input, rope)), depth))
            elif kind == "residual":
                outputs.append(head_loss(head(trunk_normed), depth))
            else:
                outputs.append(head_loss(trunk_normed, depth, head.head))
        logits, losses = zip(*outputs)
        total = losses[0] + sum(LAMBDA / depths * loss for loss in losses[1:])
        gradients = torch.autograd.grad(total, parameters.values())
        return ({"losses": torch.stack(losses).detach().double()}
                | {f"logits/{depth}": value.detach() for depth, value in enumerate(logits)}
                | {f"gradients/{name}": value for name, value in zip(parameters, gradients)})

    exact = step()
    noise = rounding_noise([model, modules], parameters.values(), step, exact)
    group = file.create_group(name)
    group.attrs.update(kind=kind, depths=depths, repeat=int(repeat), residual_form=residual_form, tied=int(tied),
                       concat=concat, trunk_hidden=trunk_hidden, recycled_hidden=recycled_hidden,
                       within_documents=int(within_documents), loss_weight=LAMBDA)
    group["tokens"] = tokens.int().numpy()
    group["document_start"] = document_start.int().numpy()
    for parameter_name, weight in weights.items():
        group[f"weights/{parameter_name}"] = weight.numpy()
    for object_name, value in exact.items():
        group[object_name] = value.numpy()
        group[object_name].attrs["rounding_noise"] = noise[object_name]
    print(f"{name}: losses {[round(loss, 6) for loss in exact['losses'].tolist()]}")


with h5py.File(sys.argv[1], "w", libver="earliest") as out:
    out.attrs["made_by"] = f"torch {torch.__version__}, transformers {transformers.__version__}"
    case(out, "main_only", depths=0, within_documents=False)
    case(out, "deepseek", depths=2, within_documents=True)
    case(out, "paper_tied", depths=3, tied=True, concat="hidden_first", trunk_hidden="raw", recycled_hidden="raw",
         within_documents=False)
    case(out, "repeated", depths=3, repeat=True, within_documents=True)
    case(out, "parallel", kind="parallel", depths=3, within_documents=True, seed=5)
    case(out, "parallel_tied", kind="parallel", depths=2, tied=True, within_documents=False)
    case(out, "residual", kind="residual", depths=3, tied=True, within_documents=True)
    case(out, "medusa", kind="residual", residual_form="medusa", depths=3, within_documents=True)
    case(out, "linear", kind="linear", depths=3, tied=True, within_documents=True)
