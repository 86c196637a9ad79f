#!/usr/bin/env bash
# ResNet-50 on ImageNet, Tables 4 and 5, on TPU slices that exist already: a worker on each takes cell after cell.
set -euo pipefail

DATA=${DATA:?say where ImageNet is: DATA=gs://BUCKET/tfds launch/tpu_pod.sh}
RUNS=${RUNS:?say where results go: RUNS=gs://BUCKET/runs}
SLICES=${SLICES:?name the slices: SLICES=NAME,NAME2}

for study in table4 table5; do
  zeroinit tpu "$study" --workdir="$RUNS/$study" --set=data_dir="$DATA" \
    --tpu="$SLICES" --zone="${ZONE:-us-central2-b}" --install \
    "$@"  # such as --dry_run
done
