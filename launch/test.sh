#!/usr/bin/env bash
# Set-up, build, and every test that this machine can run: those of the label `gpu` where a GPU is seen.
#
#   launch/test.sh [CTEST FLAG...]      such as -R checkpoint
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/build.sh
gpu=(--label-exclude gpu)
if command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus >/dev/null 2>&1; then gpu=(); fi
ctest --preset "$(launch/preset.sh)" "${gpu[@]}" "$@"
