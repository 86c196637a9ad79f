#!/usr/bin/env bash
# The open questions of docs/speed.md on one GPU, in the order of their worth, in at most nine minutes a call.
#
#   OUT=results/gpu DATA=DIR benchmarks/on_gpu.sh
#   OUT=/tmp/toy DATA=DIR benchmarks/on_gpu.sh --device=cpu      # toy sizes: does everything run?
#
# OUT gets a record of every part, DATA holds CIFAR-10. A part that has its record is not done again, and one that may
# not end in time is not begun: the same command again goes on. Needs PyTorch besides the package. Exit code: 0 where
# all is done, 1 where a part failed, 75 where there is more to do.
set -uo pipefail
OUT=$(realpath -m "${OUT:?say where the records go: OUT=DIR}")
DATA=$(realpath -e "${DATA:?say where CIFAR-10 is: DATA=DIR}") || exit 2
LIMIT=${LIMIT:-540}  # seconds
cd "$(dirname "$0")/.."

case "${1:---device=cuda}" in
  --device=cuda)
    device=cuda depth=16 width=4 batches=(64 1024) dtype=bfloat16 compile=(--compile) seconds=2 rounds=3 together=4,8
    starting=30 toy=() ;;
  --device=cpu)
    device=cpu depth=10 width=1 batches=(8) dtype=float32 compile=() seconds=0.2 rounds=1 together=2
    starting=40 toy=(--config.epochs=0.02 --config.evaluations=1 --config.batch_size=8) ;;
  *) echo "error: $1 is neither --device=cuda nor --device=cpu" >&2; exit 2 ;;
esac
caches=${CACHES:-${TMPDIR:-/tmp}/zeroinit_on_$device}
export JAX_PLATFORMS=$device JAX_COMPILATION_CACHE_DIR=$caches/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export TORCHINDUCTOR_CACHE_DIR=$caches/torch XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$OUT" "$caches" || exit 2
network=(--depth="$depth" --width="$width" --dtype="$dtype")
failed=0 postponed=0

full_length() {  # METHOD: the command of a run of all 200 epochs in the paper's protocol, which goes on where it was
  command=(zeroinit train "cifar10:$1" --workdir="$OUT/full_$1" --config.data_dir="$DATA" --config.depth="$depth"
           --config.width="$width" --config.dtype="$dtype" "${toy[@]}")
}

left() { echo $((LIMIT - SECONDS)); }

part() {  # RECORD SECONDS COMMAND...
  local record=$1 needs=$2
  shift 2
  if [ -e "$OUT/$record" ]; then
    echo "== $record: there already"
  elif [ "$(left)" -lt "$needs" ]; then
    echo "== $record: needs up to $needs s, and $(left) are left"
    postponed=1
  else
    echo "== $record, after $SECONDS s"
    timeout -s TERM -k 10 "$(left)" "$@"
    case $? in
      0) ;;
      124 | 137 | 143) echo "== $record: out of time"; postponed=1 ;;
      *) echo "== $record: failed"; failed=1 ;;
    esac
  fi
}

# Every program is compiled side by side, so that nothing compiles while it is timed.
if [ ! -e "$caches/compiled" ]; then
  echo "== compiling; what it says is in $OUT/compiling.log"
  pids=()
  beside() {
    timeout -s TERM -k 10 $((LIMIT / 3 + 1)) "$@" >> "$OUT/compiling.log" 2>&1 &
    pids+=($!)
  }
  for batch in "${batches[@]}"; do
    for method in zeroinit batch_norm; do
      case=("${network[@]}" --method="$method" --batch_size="$batch" --seconds=0.1)
      beside python -m benchmarks.ours "${case[@]}"
      beside python benchmarks/torch_wrn.py "${case[@]}" --device="$device" "${compile[@]}"
    done
  done
  beside python -m benchmarks.grids --together=1 "${network[@]}" --batch_size="${batches[0]}" --seconds=0.1
  compiled=1
  for pid in "${pids[@]}"; do wait "$pid" || compiled=0; done
  if [ "$compiled" = 1 ]; then touch "$caches/compiled"; else echo "== something was not compiled"; fi
fi

speed() {  # NAME METHOD BATCH
  part "speed_$1.json" $((20 * rounds + 10)) python -m benchmarks.speed --device="$device" --networks="$depth-$width" \
    --methods="$2" --batches="$3" --dtypes="$dtype" --rounds="$rounds" --seconds="$seconds" \
    --record="$OUT/speed_$1.json"
}

for batch in "${batches[@]}"; do
  speed "zeroinit_$batch" zeroinit "$batch"
  speed "batch_norm_$batch" batch_norm "$batch"
done

# Processes share a GPU at the same time only under NVIDIA's MPS. The record's name says whether it was there.
shared=processes
if [ "$device" = cuda ] && command -v nvidia-cuda-mps-control > /dev/null; then
  export CUDA_MPS_PIPE_DIRECTORY=$caches/mps CUDA_MPS_LOG_DIRECTORY=$caches/mps_log
  mkdir -p "$caches/mps" "$caches/mps_log"
  end_mps() { echo quit | nvidia-cuda-mps-control; }
  nvidia-cuda-mps-control -d && shared=processes_under_mps && trap end_mps EXIT
fi
part "$shared.json" $((rounds * (15 + 2 * (starting + 15)))) python -m benchmarks.grids "${network[@]}" \
  --batch_size="${batches[0]}" --runs="$together" --ways=processes --rounds="$rounds" --seconds="$seconds" \
  --starting="$starting" --record="$OUT/$shared.json"
if [ "$shared" = processes_under_mps ]; then
  end_mps
  trap - EXIT
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
fi

for method in zeroinit ghost_norm none; do
  full_length "$method"
  part "full_$method/result.json" 45 "${command[@]}"
done

# Does a loop without the host between its kernels gain something?
if [ "$device" = cuda ]; then
  XLA_FLAGS=--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,WHILE \
    rounds=1 speed command_buffers_64 zeroinit 64
fi

[ "$failed" = 0 ] || exit 1
[ "$postponed" = 0 ] || { echo "there is more to do: the same command goes on"; exit 75; }
