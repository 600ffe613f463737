#!/usr/bin/env bash
# Set-up, build, and all tests that this machine can run; tests with the label `gpu` only if there is a GPU.
#
#   launch/test.sh [CTEST FLAG...]      such as -R checkpoint
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/build.sh
gpu=(--label-exclude gpu)
if command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus >/dev/null 2>&1; then gpu=(); fi
ctest --preset "$(launch/preset.sh)" "${gpu[@]}" "$@"
