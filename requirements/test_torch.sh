#!/bin/sh
# Runs the tests of what calls torch with another torch than the CPU lock's: `requirements/test_torch.sh 2.10.0`, in an
# environment in build/ on top of .venv. The CPU build is PyTorch's own; else the packages of the CUDA lock that has
# this torch do, which run on a CPU too, from requirements/wheels of WHEELS_OF (a checkout, by default this one).
# Exit code 3: there is neither.
set -eu
cd "$(dirname "$0")/.."
version=$1
venv=build/torch-$version
wheels=${WHEELS_OF:-.}/requirements/wheels

install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: "$@"
}

install_torch() {
    lock=$(grep -lx "torch===$version .*" requirements/cuda*.txt) || lock=
    if [ -n "$lock" ] && ls "$wheels/torch-$version"-*.whl >/dev/null 2>&1; then
        awk '/^[a-z]/ { own = /^(torch|triton|onnxruntime-gpu|(nvidia|cuda)-.*)==/ } own' "$lock" >"$venv/torch.txt"
        install --require-hashes --no-index --find-links "$wheels" -r "$venv/torch.txt" || exit 1
    else
        install --retries 1 --index-url https://download.pytorch.org/whl/cpu "torch==$version" >"$venv/log" 2>&1
    fi
}

if [ ! -e "$venv/ready" ]; then
    rm -rf "$venv"
    .venv/bin/python -m venv "$venv"
    # What is installed there comes first on the path.
    (cd .venv/lib/python3.11/site-packages && pwd) >"$venv/lib/python3.11/site-packages/base.pth"
    if ! install_torch; then
        echo "torch $version: no CPU build in reach, and no wheels in $wheels; nothing was tried with it" >&2
        exit 3
    fi
    touch "$venv/ready"
fi
# Programs that tests start import sdbench too; of the path files of .venv none is read.
export PYTHONPATH="$PWD"
"$venv/bin/python" -c 'import onnxruntime, torch; print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)' >&2
exec "$venv/bin/python" -m pytest tests/backends tests/worker tests/models tests/workloads
