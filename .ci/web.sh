#!/usr/bin/env bash
# Tests in a browser: headless Chromium on SwiftShader, its software adapter.
#
# modules    compiles every WGSL module with Chromium's compiler, which is stricter than naga: all kernels and variants, both element types
#            of activations, all sizes of an attention head. Prints file, line and message of every error.
# training   web/ trains shakespeare-char for 20 steps on the page's device and generates text; losses and text must agree with a native
#            run on SwiftShader with the same variants. A slice that the browser rejects must be an error.
# usage: .ci/web.sh [PROGRAM [modules|training]]    the wgpt to run, target/checked/wgpt by default; both parts by default
set -euo pipefail
wgpt=$(realpath "${1:-target/checked/wgpt}")
part=${2:-}
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# need PACKAGE...: installs those Debian packages that are missing.
need() {
    dpkg -s "$@" >/dev/null 2>&1 && return
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# shaders FOLDER ARGUMENT...: writes modules to a folder of $out.
shaders() { "$wgpt" shaders --target wgsl --out "$out/$1" "${@:2}" >/dev/null; }

modules() {
    local by_head storage head
    # Only these texts depend on the size of a head. The loop ends at the first size that the program rejects.
    by_head=$(cd shaders && grep -l HEAD_SIZE ./*.wgsl | xargs basename -s .wgsl)
    for storage in f32 bf16 f16; do
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
}

# page FOLDER: compiles web/ to WebAssembly and writes it to a folder with the JavaScript that loads it. If rustup has no standard library
# for the target, Debian's Rust builds one from source.
page() {
    local wasm=wasm32-unknown-unknown
    if rustup target list --installed 2>/dev/null | grep -qx $wasm; then
        CARGO_TARGET_DIR=target/web cargo build --quiet --release --manifest-path web/Cargo.toml --target $wasm
    else
        need rustc-web cargo-web rust-web-src lld-22
        # -Z build-std looks for a lock file in the current folder, so this runs in that of the manifest.
        (cd web && env -u RUSTUP_TOOLCHAIN -u CARGO_BUILD_TARGET PATH="/usr/bin:$PATH" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=../target/web \
            CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22 cargo build --quiet --release --target $wasm -Z build-std=std,panic_abort)
    fi
    CARGO_TARGET_DIR=target/bind cargo run --quiet --manifest-path web/bind/Cargo.toml -- target/web/$wasm/release/web.wasm "$1"
}

training() {
    local variants run=$out/run
    mkdir "$out/page"
    page "$out/page"
    cp .ci/train.html "$out/page/index.html"
    cp assets/shakespeare.txt "$out/page/text.txt"
    python3 .ci/browser.py "$out/page" 600 | tee "$out/browser.jsonl"
    mapfile -t variants < <(python3 .ci/same.py variants "$out/browser.jsonl")
    bash .ci/swiftshader.sh "$wgpt" train --preset shakespeare-char --steps 20 --tuning none "${variants[@]}" --out "$run" --quiet \
        --set train.log_every=1 --set train.eval_every=0 --set train.eval_batches=1 >/dev/null
    bash .ci/swiftshader.sh "$wgpt" generate --run "$run" --tuning none "${variants[@]}" --temperature 1 --seed 7 \
        --prompt ROMEO: --tokens 40 --json >"$out/native.json"
    python3 .ci/same.py compare "$out/browser.jsonl" "$run/metrics.jsonl" "$out/native.json"
}

need chromium python3
case $part in
    "")
        modules
        training
        ;;
    modules | training) "$part" ;;
    *) sed -n 's/^# usage: //p' "$0" >&2; exit 2 ;;
esac
