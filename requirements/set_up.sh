#!/bin/sh
# Creates or updates .venv from the lock files: `requirements/set_up.sh run` for measuring, `... dev` also for tests and
# checks. PYTHON is the interpreter (default: a Python 3.11 on the PATH); TORCH_BUILD is cpu, cuda12,
# cuda13, cuda (the one of the two that the NVIDIA driver runs) or auto (the same, and cpu where there is no driver).
set -eu
unset PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0
cd "$(dirname "$0")/.."

LEVEL=${1:-run}
case $LEVEL in
run | dev) ;;
*) echo "setup: unknown level '$LEVEL': expected run or dev" >&2 && exit 1 ;;
esac
VENV=.venv
LOG=$VENV/setup.log
# An environment of this project always has one of these; an interrupted setup leaves the first.
UNFINISHED=$VENV/.unfinished
READY=$VENV/.ready
CPU_INDEX=https://download.pytorch.org/whl/cpu

fail() {
    echo "setup: $*" >&2
    exit 1
}

report() {
    echo "setup: $*" >&2
}

# Until it is stopped or this script ends: how far pip has come, once a second.
show_progress() {
    seconds=0
    while sleep 1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 1))
        doing="$(grep -c '^Collecting ' "$LOG" || true) packages read"
        case $(tail -n 1 "$LOG") in Installing*) doing="installing them" ;; esac
        printf '\r\033[Ksetup:   %s s, %s' "$seconds" "$doing" >&2
    done
}

# Runs a command with its output in the log, and shows its progress on a terminal.
logged() {
    progress=
    if [ -t 2 ]; then
        # Without the lock, which is held as long as any process has it open.
        show_progress 9<&- &
        progress=$!
    fi
    status=0
    "$@" >>"$LOG" 2>&1 || status=$?
    if [ -n "$progress" ]; then
        kill "$progress" 2>/dev/null || true
        wait "$progress" 2>/dev/null || true
        printf '\r\033[K' >&2
    fi
    return "$status"
}

# The same; if the command fails, prints the end of the log and fails.
quietly() {
    logged "$@" && return
    tail -n 20 "$LOG" >&2
    fail "'$*' failed; its output is above and in $LOG; fix the cause and run make again"
}

install() {
    "$VENV/bin/python" -m pip install --no-deps --require-hashes --only-binary :all: --no-compile "$@"
}

# Imports take twice as long without byte code, and PYTHONDONTWRITEBYTECODE may be set. pip compiles on one core only.
compile_byte_code() {
    report "  compiling them"
    # Fails for templates in packages, which nothing imports.
    logged "$VENV/bin/python" -m compileall -q -j 0 "$VENV/lib" sdbench || true
}

is_python_311() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

find_python() {
    for python in ${PYTHON:-python3.11 python3 /usr/bin/python3.11}; do
        is_python_311 "$python" && return
    done
    fail "no Python 3.11 found as ${PYTHON:-python3.11}; install it (Debian: apt-get install python3.11 python3.11-venv)" \
        "or name it: make PYTHON=/path/to/python3.11"
}

check_machine() {
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "the lock files are for Linux on x86_64, this is $(uname -sm); use such a machine or a container of that kind"
    find_python
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no module venv or ensurepip; install it (Debian: apt-get install python3.11-venv)"
    # Left by a setup that was interrupted at once.
    rmdir "$VENV" 2>/dev/null || true
    if [ -e "$VENV" ] && [ ! -e "$UNFINISHED" ] && [ ! -e "$READY" ]; then
        fail "$VENV was not created by this project; move it away and run make again"
    fi
}

choose_build() {
    build=${TORCH_BUILD:-auto} why=
    if [ "$build" = auto ]; then
        build=cpu
        # The NVIDIA driver, on Linux and under WSL; one that is installed and not loaded leaves its nvidia-smi.
        if [ -e /proc/driver/nvidia/version ] || [ -e /usr/lib/wsl/lib/libcuda.so.1 ] ||
            command -v nvidia-smi >/dev/null; then build=cuda; fi
    fi
    case $build in
    cpu | cuda12 | cuda13) ;;
    cuda)
        choice=$(containers/choose_cuda.sh) || exit 1
        build=cuda${choice%% *}
        if [ "$choice" != "${choice%% *}" ]; then why=" (${choice#* })"; fi
        ;;
    *) fail "invalid TORCH_BUILD '$build': expected cpu, cuda12, cuda13, cuda or auto" ;;
    esac
}

# Changes when .venv has to be recreated: with a lock, the build of torch, or the path, which scripts in .venv contain.
run_key() {
    (
        pwd
        echo "$build"
        cd requirements
        cat build.txt cpu.txt cuda12.txt cuda13.txt report.txt containers.txt publish.txt query.txt
    ) | cksum
}

# In its own step, because an unreachable index costs retries for every package.
install_torch_cpu() {
    awk '/^[a-z]/ { torch = /^torch==/ } torch' requirements/cpu.txt >"$VENV/torch.txt"
    logged install -r "$VENV/torch.txt" && return
    report "the configured package index does not have torch's CPU build; trying PyTorch's own index"
    logged install -r "$VENV/torch.txt" --retries 1 --extra-index-url "$CPU_INDEX" && return
    report "that index cannot be reached; using the CUDA build, which runs on a CPU too (a download of about 3 GB)"
    lock=requirements/cuda13.txt
}

make_environment() {
    report "creating $VENV with torch for $build$why; this takes a minute or more"
    mkdir -p "$VENV"
    : >"$UNFINISHED"
    rm -rf "$READY" "$VENV"/[!.]*
    report "  an empty environment"
    quietly "$python" -m venv "$VENV"
    quietly install -r requirements/build.txt
    lock=requirements/$build.txt
    report "  torch"
    if [ "$build" = cpu ]; then install_torch_cpu; fi
    report "  the other packages"
    quietly install -r "$lock" -r requirements/report.txt -r requirements/containers.txt -r requirements/publish.txt \
        -r requirements/query.txt
    compile_byte_code
}

# Safe to interrupt: pip always reinstalls an editable package.
install_sdbench() {
    # compat adds a path entry; the default installs a hook that runs at every import.
    quietly "$VENV/bin/python" -m pip install --no-build-isolation --no-deps --config-settings editable_mode=compat -e .
}

install_development_tools() {
    report "adding the tools for tests and checks"
    : >"$UNFINISHED"
    quietly install -r requirements/dev.txt -r requirements/fleet.txt
    compile_byte_code
}

# Runs one part of the setup unless it was completed with this key before.
once() {
    part=$1 key=$2
    shift 2
    if [ "$(cat "$READY/$part" 2>/dev/null)" = "$key" ]; then return; fi
    "$@"
    mkdir -p "$READY"
    echo "$key" >"$READY/$part"
    rm -f "$UNFINISHED"
}

# Only one setup at a time; the lock is released when the last process with the open file ends.
exec 9<"requirements/set_up.sh"
if command -v flock >/dev/null && ! flock --nonblock 9; then
    report "waiting for another setup of this checkout"
    flock 9
fi
choose_build
if [ -e "$UNFINISHED" ] || [ ! -x "$VENV/bin/python" ] || [ "$(cat "$READY/run" 2>/dev/null)" != "$(run_key)" ]; then
    check_machine
    rm -f "$READY/run"
fi
once run "$(run_key)" make_environment
once sdbench "$(cat pyproject.toml sdbench/__init__.py | cksum)" install_sdbench
if [ "$LEVEL" = dev ]; then
    once dev "$(cat requirements/dev.txt requirements/fleet.txt | cksum)" install_development_tools
fi
