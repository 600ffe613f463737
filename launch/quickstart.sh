#!/usr/bin/env bash
# From nothing to a trained model: set-up, build, tokenize, train on 4 ranks (pp 2 × dp 2), stop at a checkpoint,
# resume in another layout (pp 4 × dp 1), evaluate. No GPU is needed.
#
#   launch/quickstart.sh [FILE|FOLDER...]      text to train on; default: the compiler's C++ headers
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

texts=()
for path in "$@"; do
  if [[ ! -e $path ]]; then
    echo "quickstart: $path: there is no such file or folder; see launch/quickstart.sh --help" >&2
    exit 2
  fi
  texts+=("$(realpath -- "$path")")
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }

say "Set-up and build"
launch/build.sh foretoken
foretoken=$PWD/build/$(launch/preset.sh)/bin/foretoken

if [[ ${#texts[@]} -eq 0 ]]; then
  # The first folder that the compiler searches for <...> holds the C++ standard library.
  folder=$(g++ -E -Wp,-v -x c++ /dev/null 2>&1 | sed -n '/^#include <\.\.\.>/{n;s/^ *//p;}')
  texts=("$(realpath -- "$folder")")
fi

# By default Open MPI refuses root and more ranks than cores.
if [[ $(id -u) -eq 0 ]]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
ranks=(mpirun --quiet -n 4 --oversubscribe --bind-to none)

run=$PWD/runs/quickstart-$(date -u +%Y%m%dT%H%M%SZ)
data=$run-data
mkdir -p "$data"

say "Tokenize ${texts[*]}"
files=$(find -L "${texts[@]}" -type f | wc -l)
if [[ $files -ge 200 ]]; then
  validation=$data/validation.h5
  "$foretoken" tokenize "${texts[@]}" -o "$data/train.h5" \
    --validation-output "$validation" --validation-fraction 0.05
else
  echo "$files files are too few to hold some out: the evaluations below use the training text."
  validation=$data/train.h5
  "$foretoken" tokenize "${texts[@]}" -o "$data/train.h5"
fi

say "Train on pp 2 × dp 2 and stop at a checkpoint"
code=0
"${ranks[@]}" "$foretoken" train launch/configs/quickstart.toml --run-directory "$run" --stop-after 200 \
  --set "data.path=$data/train.h5" --set "data.validation_path=$validation" || code=$?
if [[ $code -ne 0 && $code -ne 75 ]]; then exit "$code"; fi # 75: stopped on request

say "Resume on pp 4 × dp 1"
"${ranks[@]}" "$foretoken" train --resume "$run" --set parallel.pp=4

say "Evaluate"
"${ranks[@]}" "$foretoken" evaluate "$run" --data "$validation" --rows 256

say "The run is in $run"
