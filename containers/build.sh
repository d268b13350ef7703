#!/bin/sh
# Builds the image `cpu`, `cuda12` or `cuda13` as TAG: `build.sh KIND TAG`. Works with BuildKit and with the
# classic builder.
set -eu
. "$(dirname "$0")/docker.sh"
cd "$(dirname "$0")/.."
CONTAINER_DATA=sdbench/containers
kind=$1 tag=$2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
check_docker
[ "$(uname -m)" = x86_64 ] || fail "the image cannot be built: its locked packages are for x86_64, this is $(uname -m)"

set --
while IFS= read -r line; do set -- "$@" --build-arg "$line"; done <<EOF
$(containers/build_args.sh "$kind")
EOF
# requirements/wheels has every package, so no network is needed.
if [ -d requirements/wheels ]; then set -- "$@" --network=none; fi
report "building $tag; the first build takes minutes"
if ! "$DOCKER" build "$@" -f "Dockerfile.${kind%1[23]}" -t "$tag" . >"$log" 2>&1; then
    if grep -q 'BuildKit is enabled but the buildx component is missing' "$log"; then
        DOCKER_BUILDKIT=0 "$DOCKER" build "$@" -f "Dockerfile.${kind%1[23]}" -t "$tag" . >"$log" 2>&1 ||
            fail_with_hint "$log" "the image cannot be built"
    else
        fail_with_hint "$log" "the image cannot be built"
    fi
fi
