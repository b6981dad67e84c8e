#!/usr/bin/env bash
# Type-checks the core for the web with Debian's Rust, whose standard library is built from source: rustup's target may not be at hand.
set -euo pipefail
cd "$(dirname "$0")/.."
if rustup target list --installed 2>/dev/null | grep -q wasm32-unknown-unknown; then
    exec cargo check --no-default-features --target wasm32-unknown-unknown
fi
if [[ ! -e /usr/bin/cargo || ! -e /usr/lib/rustlib/wasm32-unknown-unknown ]]; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends rustc-web cargo-web rust-web-src >/dev/null
fi
export PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/web
unset RUSTUP_TOOLCHAIN CARGO_BUILD_TARGET 2>/dev/null || true
exec cargo check --no-default-features --target wasm32-unknown-unknown -Z build-std=std,panic_abort
