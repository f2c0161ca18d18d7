#!/usr/bin/env bash
# What is to be done where a CUDA device is at hand, stage by stage; each stage takes under ten minutes.
#
#   benchmarks/gpu.sh tests     the test-suite, with the CUDA tests that are skipped elsewhere
#   benchmarks/gpu.sh measure   what the zoo costs on the GPU and on the CPU beside it
#   benchmarks/gpu.sh speed     training beside the conventional loop and torchdistill, and what bf16 costs in accuracy
#   benchmarks/gpu.sh suites    the shipped suites on the GPU (KDBENCH_DATA names the data)
#   benchmarks/gpu.sh cifar100  pairs of cifar100-crd at the papers' full protocol, one seed; call it again, and it goes on
#
# PYTHON names the interpreter (default python3), OUT the folder for the small results (default results/gpu), RUNS that of
# the runs themselves, which has to outlive a call for the next one to go on.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-results/gpu}
RUNS=${RUNS:-runs/gpu}
mkdir -p "$OUT" "$RUNS"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
kdbench() { "$PYTHON" -m kdbench "$@"; }

tests() {
    "$PYTHON" -m pytest -p no:cacheprovider --durations=15 2>&1 | tee "$OUT/tests.log"
}

measure() {
    kdbench measure resnet32x4 resnet8 resnet14 resnet20 resnet32 resnet44 resnet56 resnet110 resnet8x4 \
        wrn_16_2 wrn_40_1 wrn_40_2 vgg8 vgg13 MobileNetV2 ShuffleV1 ShuffleV2 ResNet50 vit_64_4 vit_192_6 \
        cnn_8 cnn_32 gru_64 mlp_128 --input 3,32,32 --classes 100 --runtimes eager,graph \
        --precision fp32,bf16 --memory --energy --json > "$OUT/zoo.json"
}

speed() {
    "$PYTHON" benchmarks/speed.py --quick --precision auto fp32 --out "$OUT/speed" 2>&1 | tee "$OUT/speed.log"
    "$PYTHON" benchmarks/precision.py quickstart fashion-mnist --runs "$RUNS/precision" --out "$OUT/precision" \
        2>&1 | tee "$OUT/precision.log"
}

keep() {
    mkdir -p "$OUT/$1"
    cp "$RUNS/$1/results.csv" "$RUNS/$1/run.json" "$RUNS/$1/report/report.md" "$OUT/$1/"
}

suites() {
    for suite in quickstart fashion-mnist article cifar100-small; do
        kdbench run "$suite" --device cuda --out "$RUNS/$suite" 2>&1 | tee "$OUT/$suite.log"
        keep "$suite"
    done
}

# A pair's own values stand in the suite; here it is only made smaller, to what fits into a few calls.
cifar100() {
    timeout 570 "$PYTHON" -m kdbench run cifar100-crd --device cuda --out "$RUNS/cifar100-crd" --seeds 0 \
        --set 'teachers=[resnet56]' --set 'students=[resnet20]' \
        --set 'methods=[scratch, kd, dkd, dist, logit_std, at, crd, reviewkd, simkd]' \
        --set 'pairs=[{teacher: resnet56, students: [resnet20], methods: {dkd: {beta: 2}, reviewkd: {weight: 0.6}}}]' \
        2>&1 | tee "$OUT/cifar100-crd.log"
    keep cifar100-crd
}

for stage in "${@:-tests}"; do
    case "$stage" in
        tests | measure | speed | suites | cifar100) "$stage" ;;
        *) echo "unknown stage '$stage': tests, measure, speed, suites or cifar100" >&2; exit 2 ;;
    esac
done
