#!/usr/bin/env bash
# Tables 1 to 3 in full as Slurm arrays, one cell a task. Start it again after anything: it submits what is left.
set -euo pipefail

DATA=${DATA:?say where CIFAR-10 is, on a disk that the nodes share: DATA=DIR launch/slurm_array.sh}
RUNS=${RUNS:-$PWD/runs}

for study in table1 table2 table3; do
  zeroinit slurm "$study" --workdir="$RUNS/$study" --set=data_dir="$DATA" \
    --partition=gpu --cpus=8 --hours=12 --array=64 --cells_per_task=7 \
    "$@"  # such as --slurm=account=LAB, or --dry_run
done
