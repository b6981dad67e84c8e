#!/usr/bin/env bash
# Type-checks what this machine cannot run: the core for the web, and the core and the whole program for Windows (DX12) and macOS (Metal).
# If rustup has no standard library for a target, Debian's Rust builds one from source. Nothing is linked, and no dependency of any
# feature compiles C, so no cross compiler is needed; of MinGW only dlltool, with which rustc creates Windows' import libraries.
set -euo pipefail
cd "$(dirname "$0")/.."

# need PACKAGE...: installs those Debian packages that are missing.
need() {
    dpkg -s "$@" >/dev/null 2>&1 && return
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# check TARGET [ARGUMENT OF cargo check...]
check() {
    local target=$1
    shift
    echo "$target ${*:-with default features}"
    if rustup target list --installed 2>/dev/null | grep -qx "$target"; then
        cargo check --quiet --target "$target" "$@"
        return
    fi
    need rustc-web cargo-web rust-web-src
    # A separate target folder: two compilers sharing one would rebuild each other's output every time.
    env -u RUSTUP_TOOLCHAIN -u CARGO_BUILD_TARGET PATH="/usr/bin:$PATH" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/targets \
        cargo check --quiet --target "$target" -Z build-std=std,panic_abort "$@"
}

check wasm32-unknown-unknown --no-default-features
command -v x86_64-w64-mingw32-dlltool >/dev/null || need binutils-mingw-w64-x86-64
for target in x86_64-pc-windows-gnu aarch64-apple-darwin; do
    check "$target" --no-default-features
    check "$target"
done
