#!/usr/bin/env bash
# Every WGSL module in headless Chromium, whose compiler refuses much that naga takes: all kernels and variants, activations in either
# storage, all sizes of an attention head. Prints file, line and message of what is refused.
# usage: .ci/web.sh [PROGRAM]    the wgpt to ask, target/checked/wgpt by default
set -euo pipefail
wgpt=$(realpath "${1:-target/checked/wgpt}")
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null || ! command -v python3 >/dev/null; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium python3 >/dev/null
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# shaders FOLDER ARGUMENT...: writes modules to a folder of $out.
shaders() { "$wgpt" shaders --target wgsl --out "$out/$1" "${@:2}" >/dev/null; }

# Only these texts have a size of a head in them. The program says which size is too large.
by_head=$(cd shaders && grep -l HEAD_SIZE ./*.wgsl | xargs basename -s .wgsl)
for storage in f32 bf16; do
    shaders "$storage" --storage "$storage"
    head=4
    # shellcheck disable=SC2086 # a list
    while shaders "$storage-$head" --storage "$storage" --head-size $head $by_head 2>"$out/said"; do
        head=$((head + 4))
    done
    grep -q -- "--head-size $head: needs a multiple of 4" "$out/said" && ((head > 64)) || { cat "$out/said"; exit 1; }
done
(cd "$out" && ls ./*/*.wgsl >list.txt)
cp .ci/shaders.html "$out/index.html"
python3 .ci/browser.py "$out"
