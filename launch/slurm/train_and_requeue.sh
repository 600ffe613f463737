#!/usr/bin/env bash
# The body of the Slurm templates: runs `foretoken run` in the job's allocation, and queues the job again if the run ends
# with code 75 (stopped with a checkpoint). The program decides what to resume and which failures to try again.
#
#   train_and_requeue.sh CONFIG.toml RUN_FOLDER [FLAG OF foretoken run ...]
#
# It must be the batch shell itself (exec it): the job's --signal=B:USR1@120 signals only that shell.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../help.sh"
config=${1:?usage: sbatch TEMPLATE CONFIG.toml RUN_FOLDER}
run=${2:?usage: sbatch TEMPLATE CONFIG.toml RUN_FOLDER}
stop=
trap 'stop=1' USR1 TERM INT HUP
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

flags=("${@:3}")
if [[ $DOCTOR == 1 ]]; then flags+=(--doctor); fi

# Until the supervisor has its own handlers, it ignores a signal, which is repeated below.
(
  trap '' USR1 TERM INT HUP
  exec "$FORETOKEN" run "$config" --run-directory "$run" --launcher "$FORETOKEN_LAUNCHER" \
    --max-restarts "$FORETOKEN_MAX_RESTARTS" --grace "$FORETOKEN_GRACE" "${flags[@]}"
) &
supervisor=$!

# wait returns early for a trapped signal.
while kill -0 "$supervisor" 2>/dev/null; do
  if [[ -n $stop ]]; then kill -USR1 "$supervisor" 2>/dev/null || true; fi
  sleep 1 &
  wait $! || true
done
code=0
wait "$supervisor" || code=$?

# A cancelled job, or one that Slurm queues again itself, is no longer running.
if [[ $code -eq 75 ]]; then
  state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
  if [[ $state == RUNNING ]]; then
    echo "slurm      job $SLURM_JOB_ID is queued again"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # until Slurm ends this script: an exit would end the job
  else
    echo "slurm      job $SLURM_JOB_ID is ${state:-gone} and is not queued again by its script"
  fi
fi
exit "$code"
