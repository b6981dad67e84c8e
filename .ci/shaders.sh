#!/usr/bin/env bash
# Validates naga's translations of every kernel variant: SPIR-V by spirv-val, GLSL by glslangValidator, both from Debian, and HLSL by DXC
# if `dxc` is installed. There is no validator of Metal's language for Linux.
# usage: .ci/shaders.sh [PROGRAM]    the wgpt to run, target/release/wgpt by default
set -euo pipefail
wgpt=${1:-target/release/wgpt}
if ! command -v spirv-val >/dev/null || ! command -v glslangValidator >/dev/null; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends spirv-tools glslang-tools >/dev/null
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# check LANGUAGE ENDING VALIDATOR...: validates every file, for both element types of activations; prints the output of failures.
check() {
    local language=$1 ending=$2 failed=0 storage file
    shift 2
    for storage in f32 bf16 f16; do
        "$wgpt" shaders --target "$language" --storage "$storage" --out "$out/$language-$storage"
        for file in "$out/$language-$storage"/*."$ending"; do
            # Debian 12's spirv-val is older than SPV_KHR_cooperative_matrix.
            [[ $file != *cooperative*.spv ]] || continue
            "$@" "$file" >"$out/said" 2>&1 || { failed=1; echo "${file##*/} ($storage):"; cat "$out/said"; }
        done
    done
    return $failed
}

check spirv spv spirv-val --target-env vulkan1.1
# glslangValidator accepts subgroup operations, an extension of GLSL, only for targets from SPIR-V 1.3 on. With a target it writes
# SPIR-V, by default to comp.spv in the current folder.
check glsl comp glslangValidator --target-env opengl --target-env spirv1.3 -S comp -o "$out/glslang.spv"
"$wgpt" shaders --target hlsl --out "$out/hlsl"
if command -v dxc >/dev/null; then
    for file in "$out"/hlsl/*.hlsl; do
        entry=$(basename "$file" | cut -d. -f2)
        dxc -T cs_6_0 -E "$entry" -Fo /dev/null "$file"
    done
else
    echo "no dxc here: the HLSL is written but not compiled"
fi
