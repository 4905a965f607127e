#!/usr/bin/env bash
# Runs the benchmarks on a GPU machine, within 8 minutes, and keeps what they print and their JSON.
#
#     bash benchmarks/gpu.sh [FOLDER]
#
# Status 1 if one failed, or found no time; the others run all the same.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/gpu}
limit=470 # seconds of all
most=120  # seconds of one
failed=0
mkdir -p "$folder"
export XLA_PYTHON_CLIENT_MEM_FRACTION=.4 # the rest is PyTorch's

run() { # NAME SCRIPT [FLAG...]
    local name=$1 left=$((limit - SECONDS))
    shift
    echo "== $name: $*"
    timeout $((left < 1 ? 1 : left < most ? left : most)) \
        "${PYTHON:-python}" "benchmarks/$1" "${@:2}" --json "$folder/$name.json" 2>&1 |
        tee "$folder/$name.txt" || { echo "$name: failed or out of time" && failed=1; }
}

run forms forms.py
run pooling pooling.py
run pooling-bf16 pooling.py --batch 256 --dtype bfloat16
run train_step train_step.py --preset celeba --batch-size 256
run sweep sweep.py --preset celeba --batch-size 256
run input_pipeline input_pipeline.py --preset faces
run train_step-small train_step.py --dtype bfloat16
run pooling-curve pooling.py --batch 256 --dtype bfloat16 --curve
run scaling pooling.py --scaling
echo "took $SECONDS s"
exit $failed
