#!/usr/bin/env bash
# Starts a command on N ranks of this machine, like "mpirun -n N". It also works as root, as in a container, and with more
# ranks than cores; plain mpirun refuses both. Ranks are not bound to cores, whereas Open MPI binds one or two ranks to
# single cores, which slows them down.
#
#   launch/run.sh N COMMAND...
#   launch/run.sh 4 foretoken train train.toml --set parallel.pp=2
#
# The program foretoken is the one in PATH, or else the one that launch/build.sh built.
set -euo pipefail

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

if [[ $# -eq 1 && ($1 == --help || $1 == -h) ]]; then
  usage
  exit
fi
if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  usage >&2
  exit 2
fi
ranks=$1 program=$2
shift 2

if [[ $program == foretoken ]] && ! command -v foretoken >/dev/null; then
  folder=$(dirname "${BASH_SOURCE[0]}")
  program=$(realpath -m --relative-to=. "$folder/../build/$("$folder/preset.sh")/bin/foretoken")
  if [[ ! -x $program ]]; then
    echo "run.sh: no foretoken in PATH, and none in build/: launch/build.sh builds it" >&2
    exit 127
  fi
fi

flags=(--oversubscribe --bind-to none)
if [[ $(id -u) -eq 0 ]]; then flags+=(--allow-run-as-root); fi
exec mpirun --quiet -n "$ranks" "${flags[@]}" "$program" "$@"
