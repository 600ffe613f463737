#!/usr/bin/env bash
# Prints the preset that the other scripts build and run: FORETOKEN_PRESET, or cuda-release where nvcc is found.
set -euo pipefail
if [[ -n ${FORETOKEN_PRESET:-} ]]; then
  echo "$FORETOKEN_PRESET"
elif [[ -n ${CUDACXX:-} ]] || command -v nvcc >/dev/null; then # where CMake looks
  echo cuda-release
else
  echo cpu-release
fi
