#!/usr/bin/env bash
# What is to be done where a CUDA device is at hand, stage by stage; each stage takes under ten minutes.
#
#   benchmarks/gpu.sh tests     the test-suite, with the CUDA tests that are skipped elsewhere
#   benchmarks/gpu.sh measure   what the zoo costs on the GPU and on the CPU beside it
#   benchmarks/gpu.sh suites    the shipped suites on the GPU (KDBENCH_DATA names the data)
#
# PYTHON names the interpreter (default python3), OUT the folder for the small results (default results/gpu).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-results/gpu}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
kdbench() { "$PYTHON" -m kdbench "$@"; }

tests() {
    "$PYTHON" -m pytest -p no:cacheprovider --durations=15 2>&1 | tee "$OUT/tests.log"
}

measure() {
    kdbench measure resnet32x4 resnet8 resnet14 resnet20 resnet32 resnet44 resnet56 resnet110 resnet8x4 \
        cnn_8 cnn_32 gru_64 mlp_128 --input 3,32,32 --classes 100 --json > "$OUT/zoo.json"
}

suites() {
    run=$(mktemp -d)
    for suite in quickstart fashion-mnist article; do
        kdbench run "$suite" --device cuda --out "$run/$suite" 2>&1 | tee "$OUT/$suite.log"
        mkdir -p "$OUT/$suite"
        cp "$run/$suite/results.csv" "$run/$suite/run.json" "$run/$suite/report/report.md" "$OUT/$suite/"
    done
}

for stage in "${@:-tests}"; do
    case "$stage" in
        tests | measure | suites) "$stage" ;;
        *) echo "unknown stage '$stage': tests, measure or suites" >&2; exit 2 ;;
    esac
done
