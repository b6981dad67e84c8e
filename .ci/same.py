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


def losses_of(records):
    return {record["step"]: record["loss"] for record in records if "loss" in record}


def apart(ours, theirs, bound, places):
    """The largest difference of two trainings' losses, relative to the second's; ends the program if it is above `bound`."""
    if len(theirs) < 20 or ours.keys() != theirs.keys():
        sys.exit(f"steps {sorted(ours)} {places[0]}, {sorted(theirs)} {places[1]}")
    off = {step: abs(ours[step] - theirs[step]) / theirs[step] for step in theirs}
    worst = max(off, key=off.get)
    if not off[worst] <= bound:
        sys.exit(f"step {worst}: loss {ours[worst]} {places[0]}, {theirs[worst]} {places[1]}")
    return off[worst]


def compare(browser, metrics, generated):
    told = lines(browser)
    ours, native = losses_of(told), losses_of(lines(metrics))
    worst = apart(ours, native, TOLERANCE, ("in the browser", "native"))
    written = next(line["written"] for line in told if "written" in line)
    text = lines(generated)[0]["text"]
    if written != text:
        sys.exit(f"the browser wrote {written!r}, the native run {text!r}")
    equal = sum(ours[step] == native[step] for step in native)
    print(f"{len(native)} losses as native, {equal} of them in every bit, the others within {worst:.1g}; the same {len(text)} characters")


def losses(one, other):
    first, second = losses_of(lines(one)), losses_of(lines(other))
    worst = apart(second, first, BACKENDS, (f"in {other}", f"in {one}"))
    print(f"{len(first)} losses, from {first[min(first)]:.3f} to {first[max(first)]:.3f}, within {worst:.1g} of each other")


if __name__ == "__main__":
    commands = {"variants": (variants, 1), "compare": (compare, 3), "losses": (losses, 2)}
    command, count = commands.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if not command or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    command(*sys.argv[2:])
