#!/usr/bin/env bash
# What a Slurm job of ours does: starts or goes on with a run, and on USR1 (two minutes before the time limit, by
# the job's --signal=B:USR1@120) has the ranks write a checkpoint and end with code 75, and requeues itself.
#
#   train_and_requeue.sh CONFIG.toml RUN_FOLDER      as the batch shell itself: exec it from the batch script
#
# The program is $FORETOKEN, or foretoken on the PATH. Ranks are started by mpirun inside the allocation, one per
# task, with the cores of a task each.
set -euo pipefail
config=${1:?usage: sbatch TEMPLATE CONFIG.toml RUN_FOLDER}
run=${2:?usage: sbatch TEMPLATE CONFIG.toml RUN_FOLDER}

# Where a first start ended before its first checkpoint there is nothing to go on with: its folder makes room.
if compgen -G "$run/checkpoints/step_*[0-9]" >/dev/null; then
  arguments=(--resume "$run")
else
  if [[ -e $run ]]; then mv "$run" "$run.without_checkpoint.$(date -u +%Y%m%dT%H%M%SZ)"; fi
  arguments=("$config" --run-directory "$run")
fi

mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=${SLURM_CPUS_PER_TASK:-1}" \
  "${FORETOKEN:-foretoken}" train "${arguments[@]}" &
ranks=$!
signalled=0
# mpirun hands the signal on to every rank, but not every build of it does; its children here are ranks, and one rank
# that knows is enough, for the ranks agree after each step.
trap 'signalled=1; kill -USR1 "$ranks" || true; pkill -USR1 -P "$ranks" || true' USR1

# A trapped signal ends wait before the ranks do.
while :; do
  code=0
  wait "$ranks" || code=$?
  if [[ $signalled -eq 0 ]]; then break; fi
  signalled=0
done

if [[ $code -eq 75 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
