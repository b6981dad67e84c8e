#!/usr/bin/env python3
"""Compares the training reported by .ci/train.html with a native run, and two runs with each other.

usage: .ci/same.py variants BROWSER.jsonl                                the browser's kernel variants, as options of wgpt
       .ci/same.py compare BROWSER.jsonl METRICS.jsonl GENERATED.json    fails unless losses and text agree with the native run
       .ci/same.py losses METRICS.jsonl METRICS.jsonl                    fails unless two runs on different backends have the same losses
"""
import json
import sys

# WGSL lets two compilers contract and reorder differently; a wrong kernel or a missing step is off by far more.
TOLERANCE = 1e-5
# Of runs with different variants over hundreds of steps, which amplify differences of the last bit.
BACKENDS = 0.01


def lines(file):
    with open(file) as opened:
        return [json.loads(line) for line in opened if line.strip()]


def variants(browser):
    for variant in lines(browser)[0]["variants"]:
        print("--variant", variant, sep="\n")


def compare(browser, metrics, generated):
    told = lines(browser)
    ours = {line["step"]: line["loss"] for line in told if "loss" in line}
    native = {line["step"]: line["loss"] for line in lines(metrics) if "loss" in line}
    if len(native) < 20 or ours.keys() != native.keys():
        sys.exit(f"steps {sorted(ours)} in the browser, {sorted(native)} native")
    off = {step: abs(ours[step] - native[step]) / native[step] for step in native}
    worst = max(off, key=off.get)
    if not off[worst] <= TOLERANCE:
        sys.exit(f"step {worst}: loss {ours[worst]} in the browser, {native[worst]} native")
    written = next(line["written"] for line in told if "written" in line)
    text = lines(generated)[0]["text"]
    if written != text:
        sys.exit(f"the browser wrote {written!r}, the native run {text!r}")
    equal = sum(ours[step] == native[step] for step in native)
    print(f"{len(native)} losses as native, {equal} of them in every bit, the others within {off[worst]:.1g}; the same {len(text)} characters")


def losses(one, other):
    one, other = ({line["step"]: line["loss"] for line in lines(file) if "loss" in line} for file in (one, other))
    if len(one) < 20 or one.keys() != other.keys():
        sys.exit(f"steps {sorted(one)} and {sorted(other)}")
    off = {step: abs(one[step] - other[step]) / one[step] for step in one}
    worst = max(off, key=off.get)
    if not off[worst] <= BACKENDS:
        sys.exit(f"step {worst}: losses {one[worst]} and {other[worst]}")
    print(f"{len(one)} losses, from {one[min(one)]:.3f} to {one[max(one)]:.3f}, within {off[worst]:.1g} of each other")


if __name__ == "__main__":
    commands = {"variants": (variants, 1), "compare": (compare, 3), "losses": (losses, 2)}
    command, count = commands.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if not command or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    command(*sys.argv[2:])
