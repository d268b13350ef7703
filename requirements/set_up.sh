#!/bin/sh
# Makes .venv what the lock files say: `requirements/set_up.sh run` for measuring, `... dev` for tests and checks too.
# PYTHON names the interpreter (default: a Python 3.11 on the PATH), TORCH_BUILD the build of torch: cpu, cuda or auto.
set -eu
unset PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0
cd "$(dirname "$0")/.."

LEVEL=${1:-run}
case $LEVEL in
run | dev) ;;
*) echo "set-up: '$LEVEL' is no level; write run or dev" >&2 && exit 1 ;;
esac
VENV=.venv
LOG=$VENV/set-up.log
# An environment of ours holds one of these at any moment; a set-up that was cut off leaves the first.
UNFINISHED=$VENV/.unfinished
READY=$VENV/.ready
CPU_INDEX=https://download.pytorch.org/whl/cpu

fail() {
    echo "set-up: $*" >&2
    exit 1
}

say() {
    echo "set-up: $*" >&2
}

# Fails, with the end of the log, when the command does.
quietly() {
    "$@" >>"$LOG" 2>&1 && return
    tail -n 20 "$LOG" >&2
    fail "'$*' failed; its output is above and in $LOG; run make again when the cause is gone"
}

install() {
    "$VENV/bin/python" -m pip install --no-deps --require-hashes --only-binary :all: --no-compile "$@"
}

# Imports cost double without byte code, and PYTHONDONTWRITEBYTECODE may be set. pip would compile on one core.
compile_byte_code() {
    # Fails for files that packages ship as templates and nobody imports.
    "$VENV/bin/python" -m compileall -q -j 0 "$VENV/lib" sdbench >>"$LOG" 2>&1 || true
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
        fail "$python lacks the module venv or ensurepip; install it (Debian: apt-get install python3.11-venv)"
    # What remains when making it was cut off at once.
    rmdir "$VENV" 2>/dev/null || true
    if [ -e "$VENV" ] && [ ! -e "$UNFINISHED" ] && [ ! -e "$READY" ]; then
        fail "$VENV was not made by this project; move it away and run make again"
    fi
}

choose_build() {
    build=${TORCH_BUILD:-auto}
    if [ "$build" = auto ]; then
        build=cpu
        # The NVIDIA driver, on Linux and under WSL.
        if [ -e /proc/driver/nvidia/version ] || [ -e /usr/lib/wsl/lib/libcuda.so.1 ]; then build=cuda; fi
    fi
    case $build in
    cpu | cuda) ;;
    *) fail "TORCH_BUILD is '$build'; write cpu, cuda or auto" ;;
    esac
}

# Changes when .venv has to be made anew: a lock, the build of torch, or the place, which its scripts hold.
run_key() {
    (
        pwd
        echo "$build"
        cd requirements
        cat build.txt cpu.txt cuda.txt report.txt launch.txt publish.txt query.txt
    ) | cksum
}

# torch comes in a step of its own, because an index out of reach costs retries for every package looked up.
install_torch_cpu() {
    awk '/^[a-z]/ { torch = /^torch==/ } torch' requirements/cpu.txt >"$VENV/torch.txt"
    install -r "$VENV/torch.txt" >>"$LOG" 2>&1 && return
    say "the configured package sources do not have torch's CPU build; asking PyTorch's own index"
    install -r "$VENV/torch.txt" --retries 1 --extra-index-url "$CPU_INDEX" >>"$LOG" 2>&1 && return
    say "that index cannot be reached; taking the CUDA build, which runs on a CPU too (a download of about 3 GB)"
    lock=requirements/cuda.txt
}

make_environment() {
    say "making $VENV with torch for $build; this takes a minute or more"
    mkdir -p "$VENV"
    : >"$UNFINISHED"
    rm -rf "$READY" "$VENV"/[!.]*
    quietly "$python" -m venv "$VENV"
    quietly install -r requirements/build.txt
    lock=requirements/$build.txt
    if [ "$build" = cpu ]; then install_torch_cpu; fi
    quietly install -r "$lock" -r requirements/report.txt -r requirements/launch.txt -r requirements/publish.txt \
        -r requirements/query.txt
    compile_byte_code
}

# Cut off, it is simply done again: pip always installs an editable package anew.
install_sdbench() {
    # compat: a plain path entry; the default hooks into every import of every process.
    quietly "$VENV/bin/python" -m pip install --no-build-isolation --no-deps --config-settings editable_mode=compat -e .
}

install_development_tools() {
    say "adding the tools for tests and checks"
    : >"$UNFINISHED"
    quietly install -r requirements/dev.txt -r requirements/fleet.txt
    compile_byte_code
}

# Runs one part of the set-up unless it has finished with this key before.
once() {
    part=$1 key=$2
    shift 2
    if [ "$(cat "$READY/$part" 2>/dev/null)" = "$key" ]; then return; fi
    "$@"
    mkdir -p "$READY"
    echo "$key" >"$READY/$part"
    rm -f "$UNFINISHED"
}

# A second set-up at the same time waits; the lock goes with the processes that hold the file open.
exec 9<"requirements/set_up.sh"
if command -v flock >/dev/null && ! flock --nonblock 9; then
    say "waiting for another set-up of this folder"
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
