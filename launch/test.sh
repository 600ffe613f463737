#!/usr/bin/env bash
# Set-up, build, and every test.
#
#   launch/test.sh [CTEST FLAG...]      such as -R checkpoint
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/build.sh
ctest --preset cpu-release "$@"
