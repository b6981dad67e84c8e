#!/usr/bin/env bash
# What naga makes of every kernel variant, looked at by the validators of each language: SPIR-V by spirv-val, GLSL by glslangValidator,
# both from Debian, and HLSL by DXC where `dxc` is installed. Nothing on Linux reads Metal's language.
# usage: .ci/shaders.sh [PROGRAM]    the wgpt to ask, target/release/wgpt by default
set -euo pipefail
wgpt=${1:-target/release/wgpt}
if ! command -v spirv-val >/dev/null || ! command -v glslangValidator >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends spirv-tools glslang-tools >/dev/null
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Runs a validator on every file; shows what it said of those that failed.
check() {
    local language=$1 ending=$2 failed=0
    shift 2
    "$wgpt" shaders --target "$language" --out "$out/$language"
    for file in "$out/$language"/*."$ending"; do
        "$@" "$file" >"$out/said" 2>&1 || { failed=1; echo "${file##*/}:"; cat "$out/said"; }
    done
    return $failed
}

check spirv spv spirv-val --target-env vulkan1.1
# Subgroup operations have no GLSL 4.3; glslangValidator reads naga's extension lines as of SPIR-V 1.3.
check glsl comp glslangValidator --target-env opengl --target-env spirv1.3 -S comp
"$wgpt" shaders --target hlsl --out "$out/hlsl"
if command -v dxc >/dev/null; then
    for file in "$out"/hlsl/*.hlsl; do
        entry=$(basename "$file" | cut -d. -f2)
        dxc -T cs_6_0 -E "$entry" -Fo /dev/null "$file"
    done
else
    echo "no dxc here: the HLSL is written but not compiled"
fi
