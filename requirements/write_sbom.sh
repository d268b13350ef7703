#!/bin/sh
# Writes build/sbom-KIND.json for each image: CycloneDX bills of materials, from the locks.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build
for kind in cpu cuda12 cuda13; do
    merged=$(mktemp)
    cat "requirements/$kind.txt" requirements/report.txt requirements/container.txt >"$merged"
    .venv/bin/cyclonedx-py requirements "$merged" --pyproject pyproject.toml --output-reproducible --of JSON -o "build/sbom-$kind.json"
    rm -f "$merged"
    echo "build/sbom-$kind.json"
done
