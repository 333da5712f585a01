#!/bin/bash
# One training on two hosts, for Slurm: sbatch slurm.sh
#
# Two minutes before the time limit, Slurm sends SIGTERM to all workers. They save and end with exit
# code 143, and the job is queued again: the same command continues the run.
#
#SBATCH --job-name=charlstm
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-task=1 --cpus-per-task=4
#SBATCH --time=04:00:00 --signal=TERM@120
#SBATCH --requeue --open-mode=append

srun charlstm train input.txt --batch-size 256 --epochs 50 --resume
code=$?
if [ "$code" -eq 143 ]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
