#!/usr/bin/env bash
# Prints the preset that the other scripts build and run: FORETOKEN_PRESET; if unset, cuda-release if nvcc is found,
# otherwise cpu-release.
#
#   launch/preset.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
if [[ -n ${FORETOKEN_PRESET:-} ]]; then
  echo "$FORETOKEN_PRESET"
elif [[ -n ${CUDACXX:-} ]] || command -v nvcc >/dev/null; then # the places that CMake searches
  echo cuda-release
else
  echo cpu-release
fi
