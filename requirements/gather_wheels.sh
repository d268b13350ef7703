#!/bin/sh
# Downloads the locked packages of an image to requirements/wheels with this machine's pip configuration, so that the
# image builds without a network: `gather_wheels.sh cpu|cuda12|cuda13`. Hashes are checked here and in the build.
set -eu
cd "$(dirname "$0")"
kind=${1:-cpu}
# Wheels for a C library older than the image's work too.
platforms='--platform linux_x86_64 --platform manylinux1_x86_64 --platform manylinux2010_x86_64 --platform manylinux2014_x86_64'
glibc=28
while [ "$glibc" -ge 5 ]; do
    platforms="$platforms --platform manylinux_2_${glibc}_x86_64"
    glibc=$((glibc - 1))
done

pip_download() {
    # shellcheck disable=SC2086 # each platform is a word of its own.
    "${PYTHON:-../.venv/bin/python}" -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
        --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none $platforms --dest wheels "$@"
}

mkdir -p wheels
for lock in build "$kind" report container; do
    echo "downloading the packages of $lock.txt" >&2
    # Only PyTorch's own index has the CPU build of torch under its local version label.
    if [ "$lock" = cpu ] && ! pip_download -r cpu.txt 2>/dev/null; then
        pip_download -r cpu.txt --extra-index-url https://download.pytorch.org/whl/cpu
    elif [ "$lock" != cpu ]; then
        pip_download -r "$lock.txt"
    fi
done
