#!/bin/sh
# Builds the image `cpu` or `cuda` as TAG: `build.sh KIND TAG`. Works with BuildKit and the classic builder.
set -eu
. "$(dirname "$0")/docker.sh"
cd "$(dirname "$0")/.."
LAUNCH_DATA=sdbench/launch
kind=$1 tag=$2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
check_docker

set --
while IFS= read -r line; do set -- "$@" --build-arg "$line"; done <<EOF
$(containers/build_args.sh "$kind")
EOF
# The gathered packages are all it needs.
if [ -d requirements/wheels ]; then set -- "$@" --network=none; fi
say "building $tag; the first time this takes minutes"
if ! "$DOCKER" build "$@" -f "Dockerfile.$kind" -t "$tag" . >"$log" 2>&1; then
    if grep -q 'BuildKit is enabled but the buildx component is missing' "$log"; then
        DOCKER_BUILDKIT=0 "$DOCKER" build "$@" -f "Dockerfile.$kind" -t "$tag" . >"$log" 2>&1 ||
            fail_as_docker_says "$log" "the image is not built"
    else
        fail_as_docker_says "$log" "the image is not built"
    fi
fi
