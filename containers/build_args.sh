#!/bin/sh
# Prints the build arguments of the image `cpu`, `cuda12` or `cuda13` as NAME=VALUE lines, for build.sh and
# `sdbench run --image`. BASE_IMAGE, PIP_INDEX_URL and PIP_EXTRA_INDEX_URL are passed through.
set -eu
cd "$(dirname "$0")/.."
kind=$1

revision=unknown
if commit=$(git -c safe.directory='*' rev-parse HEAD 2>/dev/null); then
    revision=$commit
    if [ -n "$(git -c safe.directory='*' status --porcelain -- . ':!results')" ]; then revision=$commit-dirty; fi
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -c safe.directory='*' log -1 --format=%ct)}
fi
echo "REVISION=$revision"
echo "CREATED=$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)"
echo "LOCK_SHA256=$(cd requirements && cat build.txt "$kind.txt" report.txt container.txt | sha256sum | cut -d' ' -f1)"
case $kind in cuda*) echo "CUDA=${kind#cuda}" ;; esac
for name in BASE_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    eval "value=\${$name-}"
    # shellcheck disable=SC2154 # eval sets it.
    if [ -n "$value" ]; then echo "$name=$value"; fi
done
