#!/bin/sh
# Copy what serving needs, and nothing else, out of the repository, and compile it: assemble.sh REPOSITORY TARGET PYTHON
# Left out: training, evaluation and the torch models, and every part of the product but the contract and candles.
set -eu
source=$1 target=$2 python=$3

mkdir -p "$target/bin" "$target/serving" "$target/fusiontrade/market" "$target/fusiontrade/inference"
cp "$source"/serving/*.py "$target/serving/"
for package in features sentiment kronos swing; do
    cp -R "$source/serving/$package" "$target/serving/$package"
done
rm -rf "$target/serving/kronos/network" "$target/serving/kronos/training"
if [ -d "$source/serving/starter" ]; then
    cp -R "$source/serving/starter" "$target/serving/starter"
fi
for module in __init__ errors market/__init__ market/candles market/timeframes inference/__init__ inference/contract \
    inference/intervals inference/probabilities inference/swing inference/texts inference/wire; do
    cp "$source/shared/fusiontrade/$module.py" "$target/fusiontrade/$module.py"
done
for step in serve healthcheck; do
    cp "$source/serving/container/$step" "$target/bin/$step"
    chmod 755 "$target/bin/$step"
done
find "$target" -name __pycache__ -type d -prune -exec rm -rf {} +
# The program never writes bytecode where it runs, and must not compile itself anew at every start.
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$target"
