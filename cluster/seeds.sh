#!/usr/bin/env bash
# One jaxnas command with several seeds, each a job of a SLURM array. A job that is preempted, or whose time is up, goes
# back to the queue and then on from where it was.
#
#   sbatch --array=0-3 cluster/seeds.sh runs/darts-SEED search --dataset cifar10 --data-dir DIR --epochs 50
#
# The first argument is the run's folder, the others are the command; SEED in them is the number of the job. What stands
# below holds unless sbatch is told otherwise; docs/cluster.md says more.
#
#SBATCH --job-name=jaxnas
#SBATCH --array=0-3
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=jaxnas-%A-%a.log
set -euo pipefail

seed="${SLURM_ARRAY_TASK_ID:?is not set: start this with sbatch --array=0-3}"
if [ $# -lt 2 ] || [[ "$1" != *SEED* ]]; then
  echo "give a folder with SEED in its name, then a command: runs/darts-SEED search --epochs 50" >&2
  exit 2
fi
folder="${1//SEED/$seed}"
shift
command=(jaxnas "${@//SEED/$seed}" --seed "$seed" --out "$folder")

if [ -e "$folder/result.json" ]; then
  echo "$folder is finished"
  exit 0
fi
if [ -e "$folder/config.json" ]; then
  command+=(--resume)
fi

trap : TERM # which jaxnas answers, by writing its state; this script waits for it
status=0
srun "${command[@]}" || status=$?
if [ "$status" -eq 143 ]; then # ended by SIGTERM, with its state on disk
  scontrol requeue "${SLURM_JOB_ID:-}" || echo "not put into the queue again: start it once more, it goes on" >&2
fi
exit "$status"
