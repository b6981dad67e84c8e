#!/usr/bin/env bash
# Tests the studio on a virtual screen: it trains 50 steps and takes a screenshot, which must not be blank. The run that it saves can be
# resumed by `wgpt train --resume`, with the same bits as an uninterrupted run, used by `wgpt generate`, and opened by the studio again.
# A text's run has the losses of `wgpt train --data`.
# What cannot be opened or saved is an error, not a panic.
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

# STUDIO: the path of the program, if it is already built and tested; wgpt is in the same folder.
studio=${STUDIO:-target/checked/studio}
if [ -z "${STUDIO:-}" ]; then
    cargo test --quiet --profile checked --package studio
    cargo build --quiet --profile checked --package studio --package wgpt --bins
fi
studio=$(realpath "$studio")
wgpt=$(dirname "$studio")/wgpt

# Xvfb picks a free display and writes its number.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
unset WAYLAND_DISPLAY
work=$(mktemp -d)
Xvfb -displayfd 3 -noreset -screen 0 1400x900x24 3>"$work/display" >/dev/null 2>&1 &
screen=$!
trap 'kill $screen; rm -r "$work"' EXIT
for _ in $(seq 50); do [ -s "$work/display" ] && break || sleep 0.2; done
DISPLAY=:$(cat "$work/display")
export DISPLAY

fail() { echo "$*"; exit 1; }
# same A B: two files with the same bits.
same() { cmp "$1" "$2" || fail "a run that the studio has begun ends otherwise"; }
# losses RUN: the metrics of a run without times and validation losses.
losses() { sed -E 's/"(val_loss|tokens_per_second|ms)":[^,}]*,?//g; s/,}/}/' "$1/metrics.jsonl"; }

mkdir -p "$(dirname "$picture")"
rm -f "$picture"
timeout 600 "$studio" --steps 50 --budget 40 --screenshot "$picture" --out "$work/words"
colours=$(identify -format %k "$picture")
[ "$colours" -gt 200 ] || fail "the picture has $colours colours only"
echo "50 steps; $picture has $colours colours"
text=$("$wgpt" generate --quiet --run "$work/words" --prompt "my lord ," --tokens 20)
[ "${#text}" -gt 25 ] || fail "nothing is written from the saved run: $text"
echo "written from what it saved: $text"

# Saved half way and resumed by wgpt: the same bits and the same history as an uninterrupted run of wgpt.
cd "$work"
timeout 600 "$studio" toy --steps 120 --budget 40 --out runs/half
find runs/half -type f ! -name '.wgpt.*' -exec sha256sum {} + >saved
cp -r runs/half resumed
"$wgpt" train --quiet --out resumed --resume >/dev/null
"$wgpt" train --quiet --preset toy --out whole >/dev/null
for file in model optimizer; do same {resumed,whole}/checkpoints/step-300/$file.safetensors; done
[ "$(losses resumed)" = "$(losses whole)" ] && [ "$(losses whole | wc -l)" = 30 ] || fail "the history is another: $(losses resumed)"
# Opened again, the run continues in a new folder, with its history.
timeout 600 "$studio" runs/half --steps 30 --budget 40 --screenshot again.png --out runs/half | grep -q "step 150 is saved in runs/half-2"
[ "$(losses runs/half-2)" = "$(losses whole | head -15)" ] || fail "the history of the opened run is another: $(losses runs/half-2)"
sha256sum --quiet --check saved
echo "what the studio saves is gone on with by wgpt, and by the studio, bit by bit"

# A text of one's own is trained on as by `wgpt train --data`, whose first steps are the same while the rate warms up, whatever their number.
seq 3000 >numbers.txt
timeout 600 "$studio" numbers.txt --steps 20 --budget 40 --out runs/numbers | grep -q "step 20 is saved in runs/numbers" || fail "the text's run is not saved"
"$wgpt" train --quiet --data numbers.txt --steps 20 --out numbers >/dev/null
[ "$(losses runs/numbers)" = "$(losses numbers)" ] && [ "$(losses numbers | wc -l)" = 2 ] || fail "a text is trained on otherwise"
"$wgpt" train --quiet --out runs/numbers --resume --steps 25 >/dev/null
echo "a text of one's own is trained on as by wgpt"

# Interrupted, it saves first. Each try waits longer, until training has begun before the signal.
mkdir interrupted && cd interrupted
for seconds in 2 4 8 16 32; do
    "$studio" toy >said & program=$!
    sleep $seconds
    kill -INT $program
    wait $program || fail "interrupted, the studio ends with $?"
    grep -q "is saved in runs/toy" said && break || [ $seconds != 32 ] || fail "interrupted, the studio does not save"
done
"$wgpt" generate --quiet --run runs/toy --prompt "hello" --tokens 5 >/dev/null
cd ..
echo "interrupted, it saves"

# refused CODE ARGS...: the studio must exit with this code and an error, not a panic.
refused() {
    local code=0 expected=$1
    shift
    timeout 60 "$studio" "$@" --steps 1 2>said || code=$?
    [ $code = "$expected" ] && grep -q "^error: " said && ! grep -q panicked said || fail "studio $*: exit code $code, $(cat said)"
}
# Errors before a window opens and in one: the preset gpt2 has neither a tokenizer.path nor a vocabulary size.
refused 2 nonsense
refused 2 toy --budget 0
refused 2 gpt2
refused 1 toy --out saved/below-a-file
# Help needs no window.
env -u DISPLAY "$studio" --help | grep -q -- "--screenshot" || fail "there is no help without a display"
echo "what cannot be opened or saved is an error"
