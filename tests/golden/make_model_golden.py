"""Makes model_golden.h5: logits, losses and gradients of small models with MTP modules, by PyTorch and the Llama
layers of Hugging Face's transformers, so that tests/model/golden_test.cpp compares with an independent implementation.

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


class Module(nn.Module):
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


def mask(document_start, within_documents):
    """[B, 1, T, T] additive: causal, and within the document where asked for."""
    position = torch.arange(T)
    allowed = position[None, None, :] <= position[None, :, None]
    if within_documents:
        allowed = allowed & (position[None, None, :] >= document_start[:, :T, None])
    allowed = allowed.expand(B, T, T)
    return torch.zeros(B, 1, T, T).masked_fill(~allowed[:, None], float("-inf"))


def case(file, name, *, depths, tied, concat, trunk_hidden, recycled_hidden, within_documents):
    torch.manual_seed(len(name))
    config = LlamaConfig(hidden_size=C, num_hidden_layers=L, num_attention_heads=4, num_key_value_heads=2, head_dim=4,
                         intermediate_size=12, vocab_size=V, rms_norm_eps=1e-5, rope_theta=10000.0,
                         tie_word_embeddings=tied, attn_implementation="eager")
    model = LlamaForCausalLM(config)
    modules = nn.ModuleList(Module(config, L + k) for k in range(depths))
    for parameter in [*model.parameters(), *modules.parameters()]:
        nn.init.normal_(parameter, std=0.4)

    tokens = torch.randint(0, V, (B, T + 1 + depths))
    document_start = torch.zeros_like(tokens)
    document_start[0, 5:] = 5
    document_start[1, 9:] = 9

    rotary = LlamaRotaryEmbedding(config)
    attention_mask = mask(document_start, within_documents)
    position = torch.arange(T)[None].expand(B, T)
    # Decoder layers one by one: LlamaModel's own output is normed, and some conventions need the raw one.
    raw = model.model.embed_tokens(tokens[:, :T])
    rope = rotary(raw, position)

    def run(layer, x):
        out = layer(x, attention_mask=attention_mask, position_ids=position, position_embeddings=rope)
        return out[0] if isinstance(out, tuple) else out

    for layer in model.model.layers:
        raw = run(layer, raw)
    normed = model.model.norm(raw)

    def head_loss(hidden, depth):
        logits = model.lm_head(hidden)
        target = tokens[:, depth + 1 : depth + 1 + T]
        valid = document_start[:, depth + 1 : depth + 1 + T] == document_start[:, :T]
        return logits, F.cross_entropy(logits[valid], target[valid])

    logits, losses = [], []
    for depth in range(depths + 1):
        if depth > 0:
            module = modules[depth - 1]
            convention = trunk_hidden if depth == 1 else recycled_hidden
            embedded = module.enorm(model.model.embed_tokens(tokens[:, depth : depth + T]))
            hidden = module.hnorm(normed if convention == "normed" else raw)
            halves = [embedded, hidden] if concat == "embedding_first" else [hidden, embedded]
            raw = run(module.layer, module.eh_proj(torch.cat(halves, -1)))
            normed = module.norm(raw)
        depth_logits, loss = head_loss(normed, depth)
        logits.append(depth_logits)
        losses.append(loss)
    total = losses[0] + sum(LAMBDA / depths * loss for loss in losses[1:])
    total.backward()

    parameters = dict(model.named_parameters())
    for k, module in enumerate(modules):
        parameters |= dict(module.names(f"model.layers.{L + k}"))
    group = file.create_group(name)
    group.attrs.update(depths=depths, tied=int(tied), concat=concat, trunk_hidden=trunk_hidden,
                       recycled_hidden=recycled_hidden, within_documents=int(within_documents), loss_weight=LAMBDA)
    group["tokens"] = tokens.int().numpy()
    group["document_start"] = document_start.int().numpy()
    group["losses"] = torch.stack(losses).detach().double().numpy()
    for depth in range(depths + 1):
        group[f"logits/{depth}"] = logits[depth].detach().numpy()
    for parameter_name, parameter in parameters.items():
        group[f"weights/{parameter_name}"] = parameter.detach().numpy()
        group[f"gradients/{parameter_name}"] = parameter.grad.numpy()
    print(f"{name}: losses {[round(loss.item(), 6) for loss in losses]}")


with h5py.File(sys.argv[1], "w", libver="earliest") as out:
    out.attrs["made_by"] = f"torch {torch.__version__}, transformers {transformers.__version__}"
    case(out, "main_only", depths=0, tied=False, concat="embedding_first", trunk_hidden="normed",
         recycled_hidden="normed", within_documents=False)
    case(out, "deepseek", depths=2, tied=False, concat="embedding_first", trunk_hidden="normed",
         recycled_hidden="normed", within_documents=True)
    case(out, "paper_tied", depths=3, tied=True, concat="hidden_first", trunk_hidden="raw", recycled_hidden="raw",
         within_documents=False)
