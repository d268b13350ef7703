#!/bin/sh
# Writes build/sbom-cpu.json and build/sbom-cuda.json: CycloneDX bills of materials of the two images, from the locks.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build
for kind in cpu cuda; do
    merged=$(mktemp)
    cat "requirements/$kind.txt" requirements/report.txt requirements/container.txt >"$merged"
    .venv/bin/cyclonedx-py requirements "$merged" --pyproject pyproject.toml --output-reproducible --of JSON -o "build/sbom-$kind.json"
    rm -f "$merged"
    echo "build/sbom-$kind.json"
done
