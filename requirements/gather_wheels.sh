#!/bin/sh
# Gathers the locked packages of an image in requirements/wheels, from wherever this machine's pip is told to look; a
# build of the image then needs no network: `gather_wheels.sh cpu|cuda`. The hashes are checked here and in the build.
set -eu
cd "$(dirname "$0")"
kind=${1:-cpu}
# Wheels for an older C library than the image's run there too.
platforms='--platform linux_x86_64 --platform manylinux1_x86_64 --platform manylinux2010_x86_64 --platform manylinux2014_x86_64'
glibc=28
while [ "$glibc" -ge 5 ]; do
    platforms="$platforms --platform manylinux_2_${glibc}_x86_64"
    glibc=$((glibc - 1))
done

pip_download() {
    # shellcheck disable=SC2086 # the platforms are words of their own.
    "${PYTHON:-../.venv/bin/python}" -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
        --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none $platforms --dest wheels "$@"
}

mkdir -p wheels
for lock in build "$kind" report container; do
    echo "gathering the packages of $lock.txt" >&2
    # Named by local label, torch's CPU build is in PyTorch's own index alone.
    if [ "$lock" = cpu ] && ! pip_download -r cpu.txt 2>/dev/null; then
        pip_download -r cpu.txt --extra-index-url https://download.pytorch.org/whl/cpu
    elif [ "$lock" != cpu ]; then
        pip_download -r "$lock.txt"
    fi
done
