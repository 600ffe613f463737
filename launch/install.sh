#!/usr/bin/env bash
# Installs Foretoken's build dependencies on Debian 12, Ubuntu 24.04 and later. Does nothing if all are installed.
# Without the rights to install, it prints the command and ends with code 2.
#
#   launch/install.sh [PACKAGE...]      additional packages
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

packages=(g++ make cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libhdf5-dev libopenblas-dev
  libfmt-dev catch2 libtomlplusplus-dev libcli11-dev libxxhash-dev nlohmann-json3-dev "$@")

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install: this is not Debian or Ubuntu, so nothing is installed. Needed, by Debian's names: ${packages[*]}" >&2
  exit 0 # CMake reports what is missing
fi

here=$(dirname "${BASH_SOURCE[0]}")
cuda=false
if [[ $("$here/preset.sh") == cuda-* ]]; then
  cuda=true
  packages+=(python3-pip)
fi

# Header-only, and not in Debian's archive. Without them attention uses Foretoken's own kernels.
install_cudnn_frontend() {
  local to=$here/../build/python
  if ! $cuda || [[ -e $to/include/cudnn_frontend.h ]]; then return; fi
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$to" nvidia-cudnn-frontend ||
    echo "install: cuDNN's frontend cannot be downloaded; attention uses Foretoken's own kernels" >&2
}

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
  install_cudnn_frontend
  exit 0
fi

install=(apt-get install --yes --no-install-recommends "${missing[@]}")
if [[ $(id -u) -eq 0 ]]; then
  as_root=(env)
elif command -v sudo >/dev/null && sudo --non-interactive true 2>/dev/null; then
  as_root=(sudo --non-interactive)
else
  {
    echo "install: missing: ${missing[*]}"
    echo "install: this user may not install them. Run this, then start again:"
    echo "  sudo apt-get update && sudo ${install[*]}"
  } >&2
  exit 2
fi

echo "install: ${missing[*]}"
"${as_root[@]}" apt-get update --quiet
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}"
install_cudnn_frontend
