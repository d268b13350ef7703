#!/bin/sh
# Prints the hash, mode and path of every file that an image adds to its base, sorted: `list_files.sh IMAGE`.
# The output is identical for two builds of one revision.
set -eu
"${DOCKER:-docker}" run --rm --network=none --user 0:0 --entrypoint sh "$1" -c '
    cd /
    find opt/sdbench manifests -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    find opt/sdbench manifests -type l -printf "%l  %p\n" | LC_ALL=C sort
    find opt/sdbench manifests results cache state -printf "%m %y  %p\n" | LC_ALL=C sort'
