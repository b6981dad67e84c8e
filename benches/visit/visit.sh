#!/usr/bin/env bash
# Everything to learn from a GPU in five minutes: is wgpt correct on it, and how fast? Runs where nothing is installed but a GPU driver.
# usage: visit.sh [FOLDER FOR RESULTS]      by default, results/ beside this script
#
# `make gpu-visit` packs this script with programs.tgz, the programs and the data that they need. Each step has a time limit and appends to a
# file of its own, so a step that fails or hangs does not lose the others. summary.txt lists how each step ended.
# VISIT_QUICK=1 takes tiny sizes, to test this script on a software driver.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=$(realpath -m "${1:-$here/results}")
work=$(mktemp -d)
trap 'jobs -p | xargs -r kill; rm -rf "$work"' EXIT
mkdir -p "$results"
tar -xzf "$here/programs.tgz" -C "$work" || exit 1
cd "$work" || exit 1
# Tests find the files of the project here; caches and runs go with the folder.
export CARGO_MANIFEST_DIR=$work WGPT_CACHE_DIR=$work/cache XDG_CACHE_HOME=$work/cache XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
export PYTHONUNBUFFERED=1

# Seconds that the whole visit may take; the steps before PyTorch's leave it its part. A software driver compiles shaders slowly.
TOTAL=290 PYTORCH=70
quick=${VISIT_QUICK:+1}
patience=1
[[ -z $quick ]] || TOTAL=1500 patience=5
left() { echo $((TOTAL - PYTORCH - SECONDS)); }

# step FILE LIMIT COMMAND...: appends what the command prints to a file of the results. It is interrupted after LIMIT seconds, or when the
# time for all steps is over, and killed if it still runs 10 seconds later.
step() {
    local file=$1 limit=$(($2 * patience)) begun=$SECONDS code
    shift 2
    ((limit <= $(left))) || limit=$(left)
    if ((limit < 3)); then
        code="no time left"
    else
        printf '\n### %s\n' "$*" >>"$results/$file"
        timeout --kill-after=10 --signal=INT "$limit" "$@" >>"$results/$file" 2>&1
        code=$?
    fi
    case $code in
        0) code=ended ;;
        124 | 137) code="stopped after $limit s" ;;
        [0-9]*) code="failed with $code" ;;
    esac
    printf '%5d s  %-22s %-14s %s\n' $((SECONDS - begun)) "$code" "$file" "$*" | tee -a "$results/summary.txt"
}

# The Vulkan loader of the pack, where the system has none; and a driver's manifest outside the folders that the loader searches.
if ! ldconfig -p 2>/dev/null | grep -q libvulkan.so.1; then
    export LD_LIBRARY_PATH=$work/libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
manifest() { compgen -G "$1/vulkan/icd.d/*.json" >/dev/null; }
if [[ -z ${VK_DRIVER_FILES:-} ]] && ! { manifest /etc || manifest /usr/share || manifest /usr/local/share; }; then
    found=$(find /usr/local /opt -name nvidia_icd.json 2>/dev/null | head -1)
    [[ -z $found ]] || export VK_DRIVER_FILES=$found
fi

# PyTorch compiles while the correctness of wgpt is checked, and measures when the card is free.
if python3 -c 'import torch' 2>/dev/null; then
    python3 torch_steps.py "$results/torch.jsonl" "$work/ready" "$work/go" >torch.txt 2>&1 &
    pytorch=$!
fi

cat "$here/commit.txt" >>"$results/system.txt"
! command -v nvidia-smi >/dev/null || step system.txt 20 nvidia-smi
step system.txt 20 ./wgpt devices

# Correct? The self-test first: if it fails, its rows say which kernel and variant, and later steps avoid these. Then the tests of kernels, and
# of whole models against PyTorch's golden numbers, which include activations in f16 with matrix units.
kernels=() selftest=()
[[ -z $quick ]] || kernels=(loss:: matmul::blocks) selftest=(--kernel loss --kernel layer_norm)
step selftest.txt 60 ./wgpt selftest "${selftest[@]}"
step tests.txt 30 ./golden --nocapture
step tests.txt 80 ./kernels --test-threads=8 "${kernels[@]}"
step tests.txt 30 ./model f16 packed

# Fast? The roof, products in every variant, training in f32, bf16 and f16, decoding; then where the time of a step goes; then a training.
if [[ -n ${pytorch:-} ]]; then
    while [[ ! -e ready ]] && kill -0 "$pytorch" 2>/dev/null && (($(left) > 100)); do sleep 0.2; done
fi
presets=(nanogpt-char gpt2)
train=(--preset nanogpt-char --steps 5000)
bench=(--seconds 0.5)
if [[ -n $quick ]]; then
    presets=(toy)
    train=(--preset toy --steps 50)
    bench=(--seconds 0.01)
fi
step bench.txt 40 ./wgpt bench "${bench[@]}" --test matmul
for preset in "${presets[@]}"; do
    step bench.txt 40 ./wgpt bench "${bench[@]}" --test train --preset "$preset"
    step bench.txt 30 ./wgpt bench "${bench[@]}" --test decode --preset "$preset"
done
for preset in "${presets[@]}"; do
    for storage in f32 f16; do
        step profile.txt 25 ./wgpt profile --preset "$preset" --steps 3 --set train.grad_accumulation=1 --set train.storage=$storage
    done
done
step train.txt 60 ./wgpt train "${train[@]}" --set train.storage=f16 --set train.eval_batches=20 --out run --json

# PyTorch's turn.
if [[ -n ${pytorch:-} ]]; then
    touch go
    while kill -0 "$pytorch" 2>/dev/null && ((SECONDS < TOTAL)); do sleep 0.2; done
    kill "$pytorch" 2>/dev/null && echo "        PyTorch was stopped" | tee -a "$results/summary.txt"
    tail -20 torch.txt | tee -a "$results/summary.txt"
fi
echo "$SECONDS s; the results are in $results"
