#!/usr/bin/env bash
# Compares Foretoken with eager PyTorch on this machine's CPU: runs both in turn on the quickstart's model, with the same
# number of threads.
#
#   pip install torch numpy
#   tests/benchmarks/compare_cpu.sh [THREADS] [PAIRS] [PYTHON]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

threads=${1:-1} pairs=${2:-5} python=${3:-python3}
launch/build.sh benchmark_training
program=build/$(launch/preset.sh)/bin/benchmark_training
ours() { "$program" --threads "$threads"; }
theirs() { "$python" tests/benchmarks/torch_peer.py --threads "$threads"; }
rate() { sed -n '1s|.* \([0-9]*\) tokens/s.*|\1|p'; }

ratios=()
for ((i = 1; i <= pairs; ++i)); do
  a=$(ours | rate) b=$(theirs | rate)
  ratios+=("$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%.2f", a / b }')")
  echo "pair $i: foretoken $a tokens/s, torch $b tokens/s, ratio ${ratios[-1]}"
done
printf '%s\n' "${ratios[@]}" | sort -n | awk '{ r[NR] = $1 } END { print "median ratio " r[int((NR + 1) / 2)] }'
ours
