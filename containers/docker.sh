# shellcheck shell=sh
# What the scripts beside this one share; they source it. DOCKER names the client.
DOCKER=${DOCKER:-docker}
LAUNCH_DATA=$(dirname "$0")/../sdbench/launch
EXIT_ENVIRONMENT=3

say() {
    echo "sdbench: $*" >&2
}

fail() {
    say "$*"
    exit "$EXIT_ENVIRONMENT"
}

# Says in one line what the output of Docker in file $1 means; $2 is what failed.
fail_as_docker_says() {
    while IFS='	' read -r pattern meaning; do
        case $pattern in '' | '#'*) continue ;; esac
        if grep -Eiq -e "$pattern" "$1"; then
            case $meaning in *driver*) driver=$(driver_version) ;; *) driver= ;; esac
            fail "$2: $meaning ($(grep -Ei -e "$pattern" "$1" | tail -n 1 | cut -c 1-200)$driver)"
        fi
    done <"$LAUNCH_DATA/problems.tsv"
    tail -n 20 "$1" >&2
    fail "$2: Docker says no more than what stands above"
}

driver_version() {
    if [ -r /proc/driver/nvidia/version ]; then
        # "NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build": the architecture has digits too.
        sed -n 's/.*Kernel Module.* \([0-9][0-9]*\.[0-9.]*\) .*/; this host has driver \1/p' /proc/driver/nvidia/version
    fi
}

check_docker() {
    command -v "$DOCKER" >/dev/null 2>&1 ||
        fail "there is no Docker client: install Docker (Debian: sudo apt-get install docker.io), or run natively: make bench"
    case ${DOCKER_HOST:-unix:} in
    unix:*) ;;
    *) fail "DOCKER_HOST is $DOCKER_HOST, another machine: this script shares folders with the engine; use sdbench launch --host" ;;
    esac
    "$DOCKER" version --format '{{.Server.Version}}' >"$log" 2>&1 || fail_as_docker_says "$log" "Docker does not answer"
}
