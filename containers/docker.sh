# shellcheck shell=sh
# Sourced by the scripts in this folder. DOCKER is the client.
DOCKER=${DOCKER:-docker}
CONTAINER_DATA=$(dirname "$0")/../sdbench/containers
EXIT_ENVIRONMENT=3

report() {
    echo "sdbench: $*" >&2
}

fail() {
    report "$*"
    exit "$EXIT_ENVIRONMENT"
}

# Fails with one line: what failed ($2), and the hint for Docker's output in file $1.
fail_with_hint() {
    while IFS='	' read -r pattern meaning; do
        case $pattern in '' | '#'*) continue ;; esac
        if grep -Eiq -e "$pattern" "$1"; then
            case $meaning in *driver*) driver=$(driver_version) ;; *) driver= ;; esac
            shown=$(grep -Ei -e "$pattern" "$1" | tail -n 1 | cut -c 1-200)
            fail "$2: $meaning ($shown${driver:+; this host has driver $driver})"
        fi
    done <"$CONTAINER_DATA/engine_errors.tsv"
    tail -n 20 "$1" >&2
    fail "$2: see Docker's output above"
}

nvidia_smi() {
    # The path is of WSL. A GPU that does not answer may keep it waiting; the errors that it prints are no values.
    PATH=$PATH:/usr/lib/wsl/lib timeout 20 nvidia-smi --format=csv,noheader "$@" 2>/dev/null || true
}

# Prints the version of the NVIDIA driver by file $1, or by nvidia-smi where that is missing; nothing if there is none.
driver_version() {
    set -- "${1:-/proc/driver/nvidia/version}"
    if [ -r "$1" ]; then
        # "NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build": the architecture has digits too.
        sed -n 's/.*Kernel Module.* \([0-9][0-9]*\.[0-9.]*\) .*/\1/p' "$1"
    else
        nvidia_smi --query-gpu=driver_version | grep -x '[0-9][0-9]*\.[0-9.]*' | sed -n 1p
    fi
}

check_docker() {
    command -v "$DOCKER" >/dev/null 2>&1 ||
        fail "no Docker client found: install Docker (Debian: sudo apt-get install docker.io), or run natively: make bench"
    case ${DOCKER_HOST:-unix:} in
    unix:*) ;;
    *) fail "DOCKER_HOST is $DOCKER_HOST, another machine: this script needs folders in common with the engine; use sdbench run --image --host" ;;
    esac
    if "$DOCKER" --version 2>/dev/null | grep -iq podman; then
        fail "'$DOCKER' is Podman, which is not supported: install Docker and name it with DOCKER=..., or run natively: make bench"
    fi
    "$DOCKER" version --format '{{.Server.Version}}' >"$log" 2>&1 || fail_with_hint "$log" "Docker does not answer"
}
