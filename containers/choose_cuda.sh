#!/bin/sh
# Prints the newest CUDA that the driver and the GPU run, 12 or 13, then a space and why: `choose_cuda.sh [FILE]`. FILE
# is a copy of another host's /proc/driver/nvidia/version; then its driver alone counts. CUDA=12|13 decides instead.
set -eu
. "$(dirname "$0")/docker.sh"
CPU_HINT="or measure on the CPU: make bench-cpu, or make bench TORCH_BUILD=cpu"

# Prints ten times the highest compute capability of the GPUs in GPUS, or of all; nothing where it is unknown.
read_capability() {
    case ${GPUS-} in device=*) set -- "--id=${GPUS#device=}" ;; esac
    nvidia_smi --query-gpu=compute_cap "$@" | tr -d . | grep -x '[0-9]*' | sort -n | tail -n 1
}

case ${CUDA-} in
'') ;;
12 | 13) echo "$CUDA" && exit ;;
*) report "invalid CUDA '$CUDA': expected 12 or 13" && exit 2 ;;
esac
driver=$(driver_version "$@")
[ -n "$driver" ] ||
    fail "no NVIDIA driver is loaded: see nvidia-smi; to name an image all the same set CUDA=12 or CUDA=13, $CPU_HINT"
capability='' why='' fix=''
if [ $# = 0 ]; then capability=$(read_capability); fi
# CUDA, its first driver (NVIDIA's CUDA compatibility guide), and the lowest capability in PyTorch's builds for it.
while read -r cuda first lowest; do
    if [ "${driver%%.*}" -lt "$first" ]; then
        why="driver $driver is older than $first, which CUDA $cuda needs" fix="update it, "
    elif [ "${capability:-$lowest}" -lt "$lowest" ]; then
        why="a GPU of compute capability ${capability%?}.${capability#"${capability%?}"} is too old for CUDA $cuda" fix=
    else
        echo "$cuda ${why:-driver $driver runs it}"
        exit
    fi
done <<EOF
13 580 75
12 525 70
EOF
fail "$why: $fix$CPU_HINT"
