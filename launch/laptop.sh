#!/usr/bin/env bash
# A part of Table 1 on this machine: three methods, five rates, three seeds, ten epochs. Edit, and start again: it goes on.
set -euo pipefail

DATA=${DATA:?say where CIFAR-10 is: DATA=DIR launch/laptop.sh}

zeroinit study table1 --workdir=runs/table1_laptop --set=data_dir="$DATA" \
  --methods=none,multiplier,zeroinit \
  --set=learning_rate=2^-5,2^-4,2^-3,2^-2,2^-1 --set=epochs=10 --seeds=3 \
  "$@"  # such as --list, which says what it costs
