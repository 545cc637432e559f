#!/bin/sh
# Install the pinned requirements into a virtual environment of their own: install.sh PYTHON FOLDER REQUIREMENTS
# Every file is checked against its hash; nothing is resolved or compiled here.
set -eu
python=$1 folder=$2 requirements=$3

"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --require-hashes \
    --only-binary :all: --requirement "$requirements"
"$folder/bin/python" -m pip check --disable-pip-version-check
"$folder/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check pip
"$folder/bin/python" -m compileall -q -j 0 "$folder/lib"
