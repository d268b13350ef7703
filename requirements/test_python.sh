#!/bin/sh
# Runs the tests that need no torch on another Python: `requirements/test_python.sh python3.13`. The locks are for 3.11;
# here the newest packages that pyproject.toml allows are installed, in build/. setuptools builds the wheel of a test.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${1:?name a Python, for example python3.13}
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=build/python-$version
[ -x "$venv/bin/python" ] || "$PYTHON" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test]' setuptools
echo "tests without torch on $("$venv/bin/python" --version)" >&2
exec "$venv/bin/python" -m pytest
