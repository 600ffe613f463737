#!/usr/bin/env bash
# Settings of all templates in this folder, to be edited. Nodes, tasks and time are in a template's #SBATCH lines.
# Variables that `sbatch --export=ALL,NAME=VALUE` sets keep their values.

# module load openmpi hdf5            # the modules that the program was built with

: "${FORETOKEN:=foretoken}"                  # the program, or its path
: "${FORETOKEN_LAUNCHER:=mpirun}"            # mpirun, srun, or a whole command
: "${DOCTOR:=0}"                             # 1: check the nodes first (foretoken doctor), end with its code
: "${FORETOKEN_MAX_RESTARTS:=3}"             # consecutive, without a newer checkpoint
: "${FORETOKEN_GRACE:=110}"                  # seconds for a checkpoint; less than --signal's, more than a save takes

cores=${SLURM_CPUS_PER_TASK:-1}
case $FORETOKEN_LAUNCHER in
mpirun)
  if [[ $cores -gt 1 ]]; then FORETOKEN_LAUNCHER="mpirun --map-by slot:PE=$cores"; fi
  ;;
srun)
  if ! srun --mpi=list 2>&1 | grep -qw pmix; then
    echo "slurm: this Slurm has no PMIx (srun --mpi=list), so Open MPI's ranks cannot be started by srun:" \
      "set FORETOKEN_LAUNCHER=mpirun in launch/slurm/settings.sh" >&2
    exit 2
  fi
  FORETOKEN_LAUNCHER="srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=$cores"
  ;;
esac
