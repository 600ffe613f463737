#!/usr/bin/env bash
# Prints the preset that the other scripts build and run: FORETOKEN_PRESET, or cuda-release where nvcc is found.
set -euo pipefail
if [[ -n ${FORETOKEN_PRESET:-} ]]; then
  echo "$FORETOKEN_PRESET"
elif command -v nvcc >/dev/null || [[ -x ${CUDACXX:-/usr/local/cuda/bin/nvcc} ]]; then
  echo cuda-release
else
  echo cpu-release
fi
