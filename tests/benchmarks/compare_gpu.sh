#!/usr/bin/env bash
# Compares training in Foretoken and PyTorch on this machine's GPU: runs both in turn on the model of the README's figures,
# 1.43 G parameters with one MTP module.
#
# Foretoken keeps AdamW's moments in bf16, as launch/configs/gpu.toml does; PyTorch keeps them in fp32, like the weights.
#
#   tests/benchmarks/compare_gpu.sh [VOCABULARY] [PYTHON]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

vocabulary=${1:-32768} python=${2:-python3}
launch/build.sh benchmark_training
work=(--device cuda --hidden 2048 --layers 24 --heads 16 --ffn 5632 --vocab "$vocabulary" --depths 1 --rows 4
  --length 2048 --microbatches 4 --steps 10)
rate() { sed -n '1s|.* \([0-9]*\) tokens/s.*|\1|p'; }

ours=$("build/$(launch/preset.sh)/bin/benchmark_training" "${work[@]}" --recompute selective --moments bf16)
echo "$ours"
theirs=$("$python" tests/benchmarks/torch_peer.py "${work[@]}" 2>/dev/null)
echo "$theirs"
awk -v a="$(rate <<<"$ours")" -v b="$(rate <<<"$theirs")" '
  BEGIN { printf "ratio %.2f (AdamW moments: Foretoken in bf16, PyTorch in fp32)\n", a / b }'
