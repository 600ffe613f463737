#!/usr/bin/env bash
# Set-up and build: installs packages, then builds build/cuda-release if nvcc is found, otherwise build/cpu-release.
#
#   launch/build.sh [TARGET...]      all targets if none is named
#   FORETOKEN_PRESET=cpu-release launch/build.sh      another preset of CMakePresets.json
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/install.sh
preset=$(launch/preset.sh)
flags=()
if command -v ccache >/dev/null; then
  flags+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  if [[ $preset == cuda-* ]]; then flags+=(-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache); fi
fi
targets=()
for target in "$@"; do targets+=(--target "$target"); done
cmake --preset "$preset" "${flags[@]}"
cmake --build --preset "$preset" --parallel "$(nproc)" "${targets[@]}"
