#!/usr/bin/env bash
# Set-up and build for the CPU: the packages, then build/cpu-release.
#
#   launch/build.sh [TARGET...]      all targets where none is named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/install.sh
flags=()
if command -v ccache >/dev/null; then flags+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
targets=()
for target in "$@"; do targets+=(--target "$target"); done
cmake --preset cpu-release "${flags[@]}"
cmake --build --preset cpu-release --parallel "$(nproc)" "${targets[@]}"
