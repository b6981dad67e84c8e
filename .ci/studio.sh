#!/usr/bin/env bash
# The studio on a screen that nobody sees: it is well-formed, opens, trains 50 steps and leaves a picture, which must not be blank; what
# cannot be opened is an error and not a panic.
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
sh .ci/driver.sh

# STUDIO: the program, where it is built and tested already.
studio=${STUDIO:-target/checked/studio}
if [ -z "${STUDIO:-}" ]; then
    cargo test --quiet --profile checked --package studio
    cargo build --quiet --profile checked --package studio
fi

# A display that is free, and which: Xvfb says so.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
unset WAYLAND_DISPLAY
work=$(mktemp -d)
Xvfb -displayfd 3 -noreset -screen 0 1400x900x24 3>"$work/display" >/dev/null 2>&1 &
screen=$!
trap 'kill $screen; rm -r "$work"' EXIT
for _ in $(seq 50); do [ -s "$work/display" ] && break || sleep 0.2; done
DISPLAY=:$(cat "$work/display")
export DISPLAY

mkdir -p "$(dirname "$picture")"
rm -f "$picture"
timeout 600 "$studio" --steps 50 --budget 40 --screenshot "$picture"
colours=$(identify -format %k "$picture")
[ "$colours" -gt 200 ] || { echo "the picture has $colours colours only"; exit 1; }
echo "50 steps; $picture has $colours colours"

# Refused before a window opens, and in one: the default text has no byte pairs to begin gpt2 with.
for wrong in nonsense gpt2; do
    code=0
    timeout 60 "$studio" $wrong --steps 1 2>"$work/said" || code=$?
    [ $code = 1 ] && [ -s "$work/said" ] && ! grep -q panicked "$work/said" || { echo "studio $wrong: exit code $code"; cat "$work/said"; exit 1; }
done
echo "what cannot be opened is told"
