#!/usr/bin/env bash
# Packs into target/gpu-visit all that a visit to a machine with a GPU needs, where nothing is installed but a GPU driver: see visit.sh.
# usage: benches/visit/pack.sh [OPTION OF cargo...] (`make gpu-visit`)      WGPT: the path of wgpt, if it is already built
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

target=${CARGO_TARGET_DIR:-target}
mkdir "$work/pack"
[[ -n ${WGPT:-} ]] || cargo build --release --bin wgpt
strip -o "$work/pack/wgpt" "${WGPT:-$target/release/wgpt}"
# The paths of test programs are in cargo's messages.
tests=(kernels golden model)
cargo test --profile checked --no-run "$@" "${tests[@]/#/--test=}" --message-format=json-render-diagnostics >"$work/messages"
for name in "${tests[@]}"; do
    program=$(sed -n "s/.*\"name\":\"$name\".*\"executable\":\"\([^\"]*\)\".*/\1/p" "$work/messages" | tail -1)
    [[ -n $program ]] || { echo "pack.sh: cargo built no program $name" >&2; exit 1; }
    strip -o "$work/pack/$name" "$program"
done
# What tests read, and PyTorch's part.
cp -r --parents shaders src/selftest src/reference assets/golden "$work/pack"
cp benches/visit/torch_steps.py "$work/pack"
# The Vulkan loader, and what NVIDIA's driver links on a machine without a display.
mkdir "$work/pack/libraries"
for name in libvulkan.so.1 libEGL.so.1 libGLX.so.0 libGLdispatch.so.0; do
    library=$(ldconfig -p | awk -v name="$name" '$1 == name && /x86-64/ { print $NF; exit }')
    [[ -z $library ]] || cp -L "$library" "$work/pack/libraries/$name"
done

folder=$target/gpu-visit
rm -rf "$folder"
mkdir -p "$folder"
tar -C "$work/pack" -czf "$folder/programs.tgz" .
cp benches/visit/visit.sh "$folder"
git show -s --format='commit %h of %cs' >"$folder/commit.txt"
size=$(du -sm "$folder" | cut -f1)
cat <<END
$folder holds the visit, $size MiB: $(cat "$folder/commit.txt"). Then:
1. copy the folder to the machine with the GPU (x86-64 Linux with a Vulkan driver) and run: bash gpu-visit/visit.sh
2. copy gpu-visit/results back, and read summary.txt, selftest.txt and tests.txt first: a wrong kernel is worth more than a rate
3. python3 benches/visit/record.py RESULTS >>benches/record/ADAPTER--DRIVER/DATE.csv adds the rates, and docs/PERFORMANCE.md says what was predicted
END
((size <= 45)) || { echo "pack.sh: more than 45 MiB, which some machines refuse" >&2; exit 1; }
