#!/usr/bin/env bash
# The studio on a screen that nobody sees: it opens, trains 50 steps and leaves a picture, which must not be blank.
# usage: .ci/studio.sh [PICTURE.png]
set -euo pipefail
cd "$(dirname "$0")/.."
picture=${1:-target/studio.png}

packages="xvfb libxkbcommon-x11-0 libxcursor1 libxi6 libxrandr2 libx11-xcb1 imagemagick"
# shellcheck disable=SC2086 # a list
if ! dpkg -s $packages >/dev/null 2>&1; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages >/dev/null
fi
cargo build --quiet --release --manifest-path studio/Cargo.toml --target-dir target/studio

export DISPLAY=:77 XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
unset WAYLAND_DISPLAY
Xvfb "$DISPLAY" -screen 0 1400x900x24 >/dev/null 2>&1 &
screen=$!
trap 'kill $screen' EXIT
sleep 2
mkdir -p "$(dirname "$picture")"
rm -f "$picture"
timeout 600 target/studio/release/studio --steps 50 --budget 40 --screenshot "$picture"
colours=$(identify -format %k "$picture")
[ "$colours" -gt 200 ] || { echo "the picture has $colours colours only"; exit 1; }
echo "50 steps; $picture has $colours colours"
