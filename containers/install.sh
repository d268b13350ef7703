#!/bin/sh
# Runs inside an image build: `packages cpu|cuda12|cuda13` creates /opt/sdbench, `application` creates /opt/application.
# The result depends only on the revision: pinned files, checked hashes, byte code without timestamps.
set -eu
cd /src
# The order of constants in byte code depends on the hash seed.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0
TOOLS=/opt/tools

pip_install() {
    "$TOOLS/bin/python" -m pip --python /opt/sdbench/bin/python \
        install --no-deps --require-hashes --only-binary :all: --no-compile "$@"
}

# Unchecked: the files of an image do not change, and checking each source takes time at every start.
compile_byte_code() {
    # Fails for templates in packages, which nothing imports.
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$1" >/dev/null 2>&1 || true
}

install_packages() {
    if [ -d requirements/wheels ]; then
        export PIP_NO_INDEX=1 PIP_FIND_LINKS=/src/requirements/wheels
        unset PIP_EXTRA_INDEX_URL PIP_INDEX_URL
    fi
    # An empty build argument would be an empty index URL.
    if [ -z "${PIP_INDEX_URL-}" ]; then unset PIP_INDEX_URL; fi
    if [ -z "${PIP_EXTRA_INDEX_URL-}" ]; then unset PIP_EXTRA_INDEX_URL; fi
    python3 -m venv "$TOOLS"
    "$TOOLS/bin/python" -m pip install --no-deps --require-hashes --only-binary :all: -r requirements/build.txt
    python3 -m venv --without-pip /opt/sdbench
    # In its own step, because an unreachable index costs retries for every package.
    awk '/^[a-z]/ { torch = /^torch==/ } torch' "requirements/$1.txt" >torch.txt
    pip_install -r torch.txt
    unset PIP_EXTRA_INDEX_URL
    # open_clip_torch contains CLIP's vocabulary, and requires torchvision, timm and ftfy, which nothing uses. Only the
    # vocabulary is kept, so that `pip check` passes.
    awk '/^[a-z]/ { own = /^open-clip-torch==/ } own' "requirements/$1.txt" >vocabulary.txt
    awk '/^[a-z]/ { own = /^open-clip-torch==/ } !own' "requirements/$1.txt" >packages.txt
    pip_install --target /opt/vocabulary -r vocabulary.txt
    mkdir -p /opt/sdbench/share
    mv /opt/vocabulary/open_clip/bpe_simple_vocab_16e6.txt.gz /opt/sdbench/share/
    rm -rf /opt/vocabulary
    pip_install -r packages.txt -r requirements/report.txt -r requirements/container.txt
    "$TOOLS/bin/python" -m pip --python /opt/sdbench/bin/python check
    compile_byte_code /opt/sdbench/lib
}

install_application() {
    "$TOOLS/bin/python" -m pip wheel --no-deps --no-build-isolation --no-index -w /dist /src
    "$TOOLS/bin/python" -m pip --python /opt/sdbench/bin/python \
        install --no-deps --no-index --no-compile --target /opt/application /dist/*.whl
    rm -rf /opt/application/bin /opt/application/sdbench-*.dist-info/direct_url.json
    # It has the hash of the wheel, which contains the time of its build.
    sed -i -e '/direct_url.json/d' -e '/bin\/sdbench,/d' /opt/application/sdbench-*.dist-info/RECORD
    compile_byte_code /opt/application
}

case $1 in
packages) install_packages "$2" ;;
application) install_application ;;
*) echo "install: unknown step '$1': expected packages or application" >&2 && exit 1 ;;
esac
