#!/bin/sh
# Runs inside the build of an image: `packages cpu|cuda` makes /opt/sdbench, `application` makes /opt/application.
# What it installs depends on the revision alone: pinned files, checked hashes, byte code without times in it.
set -eu
cd /src
# The hash seed decides the order of the constants in byte code.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0
TOOLS=/opt/tools

pip_install() {
    "$TOOLS/bin/python" -m pip --python /opt/sdbench/bin/python \
        install --no-deps --require-hashes --only-binary :all: --no-compile "$@"
}

# Unchecked: nobody edits an image's files, and looking at each source costs time at every start.
compile_byte_code() {
    # Fails for files that packages ship as templates and nobody imports.
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$1" >/dev/null 2>&1 || true
}

# What no measurement imports: headers and tools to build against torch, the packages' own tests and samples, sympy's
# physics, and the networks other than those that diffusers' Stable Diffusion imports; all others only come when asked
# for by name.
drop_what_is_never_imported() {
    cd /opt/sdbench/lib/python3.11/site-packages
    rm -rf torch/include torch/share torch/test torch/lib/*test*.so torch/lib/libbackend_with_compiler.so \
        nvidia/*/include onnx/backend/test onnxruntime/transformers skimage/data/*.png \
        setuptools pkg_resources _distutils_hack distutils-precedence.pth setuptools-*.dist-info \
        sympy/physics diffusers/modular_pipelines
    find torch/bin -type f ! -name torch_shm_manager -delete
    find transformers/models -mindepth 1 -maxdepth 1 -type d ! -name auto ! -name clip ! -name encoder_decoder \
        ! -name dinov2_with_registers ! -name siglip ! -name vit_mae -exec rm -rf {} +
    find diffusers/pipelines -mindepth 1 -maxdepth 1 -type d ! -name stable_diffusion -exec rm -rf {} +
    find . -depth -type d -name tests -exec rm -rf {} +
    find . -name '*.a' -delete
    cd /src
}

install_packages() {
    if [ -d requirements/wheels ]; then
        export PIP_NO_INDEX=1 PIP_FIND_LINKS=/src/requirements/wheels
        unset PIP_EXTRA_INDEX_URL PIP_INDEX_URL
    fi
    # An empty argument would name an empty index.
    if [ -z "${PIP_INDEX_URL-}" ]; then unset PIP_INDEX_URL; fi
    if [ -z "${PIP_EXTRA_INDEX_URL-}" ]; then unset PIP_EXTRA_INDEX_URL; fi
    python3 -m venv "$TOOLS"
    "$TOOLS/bin/python" -m pip install --no-deps --require-hashes --only-binary :all: -r requirements/build.txt
    python3 -m venv --without-pip /opt/sdbench
    # Alone, because an index out of reach costs retries for every package looked up.
    awk '/^[a-z]/ { torch = /^torch==/ } torch' "requirements/$1.txt" >torch.txt
    pip_install -r torch.txt
    unset PIP_EXTRA_INDEX_URL
    pip_install -r "requirements/$1.txt" -r requirements/report.txt -r requirements/container.txt
    drop_what_is_never_imported
    compile_byte_code /opt/sdbench/lib
}

install_application() {
    "$TOOLS/bin/python" -m pip wheel --no-deps --no-build-isolation --no-index -w /dist /src
    "$TOOLS/bin/python" -m pip --python /opt/sdbench/bin/python \
        install --no-deps --no-index --no-compile --target /opt/application /dist/*.whl
    rm -rf /opt/application/bin /opt/application/sdbench-*.dist-info/direct_url.json
    # It hashed the wheel, which holds the times of its build.
    sed -i '/direct_url.json/d' /opt/application/sdbench-*.dist-info/RECORD
    compile_byte_code /opt/application
}

case $1 in
packages) install_packages "$2" ;;
application) install_application ;;
*) echo "install: '$1' is neither packages nor application" >&2 && exit 1 ;;
esac
