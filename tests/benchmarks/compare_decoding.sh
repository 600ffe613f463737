#!/usr/bin/env bash
# Compares decoding in Foretoken and PyTorch on this machine: runs both in turn and prints the tokens/s of the trunk with the
# choice of tokens, by number of new rows per sequence. On a GPU the model has 1.43 G parameters and runs in bf16; on the CPU
# it has 25 M and runs in fp32.
#
#   tests/benchmarks/compare_decoding.sh cpu|cuda [SEQUENCES] [PROMPT] [PYTHON]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

device=${1:?cpu or cuda} sequences=${2:-1} prompt=${3:-512} python=${4:-python3}
work=(--device "$device" --batch "$sequences" --prompt "$prompt" --rows 1,2,3,4,6,8)
if [[ $device == cuda ]]; then
  work+=(--hidden 2048 --layers 24 --heads 16 --ffn 5632 --vocab 32768)
else
  work+=(--hidden 512 --layers 6 --heads 8 --ffn 1408 --vocab 8192 --threads "$(nproc)")
fi

launch/build.sh benchmark_decoding
ours=$("build/$(launch/preset.sh)/bin/benchmark_decoding" "${work[@]}" --depths 0)
theirs=$("$python" tests/benchmarks/torch_decoding_peer.py "${work[@]}" 2>/dev/null)
head -1 <<<"$ours"
head -1 <<<"$theirs"
awk 'NR == FNR { if ($1 == "0" && $2 ~ /^[0-9]+$/) ours[$2] = $NF; next }
  $1 == "rows" { printf "  rows  foretoken"; for (i = 2; i <= NF; ++i) printf " %10s", $i; print "  ratio to the best" }
  $1 in ours && FNR > 2 { best = 0; for (i = 2; i <= NF; ++i) if ($i > best) best = $i
    printf "  %4s %10s", $1, ours[$1]; for (i = 2; i <= NF; ++i) printf " %10s", $i
    printf "  %.2f\n", ours[$1] / best }' <(echo "$ours") <(echo "$theirs")
