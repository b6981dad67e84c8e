#!/usr/bin/env python3
"""Prints the rates of a visit (visit.sh) as rows of benches/record.

usage: record.py RESULTS [header]    `header` prints the line of column names first, for a new file
"""
import json
import pathlib
import re
import sys

PREFIXES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
ADDED = {"FLOP": 1e9, "B": 1e9, "token": 1, "tokens": 1}
MEASURES = {"FLOP": "GFLOP per second", "B": "GB per second", "token": "tokens per second", "tokens": "tokens per second"}


def rate(cell):
    """`97.57 GFLOP` and `7,745 tokens` in the units of the record."""
    number, unit = re.fullmatch(r"([\d.,]+) ?(\S+)", cell).groups()
    base = next(base for base in ADDED if unit.endswith(base))
    return float(number.replace(",", "")) * PREFIXES[unit[: -len(base)]] / ADDED[base], MEASURES[base]


def bench(text):
    """The rows of the tables of `wgpt bench`; one without a rate is what did not fit."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 5 and cells[0] != "test" and cells[2] != "see below":
            yield ("bench", f"{cells[0]} {cells[1]}".strip(), *reversed(rate(cells[2])))


def torch(text):
    for row in map(json.loads, text.splitlines()):
        case = f"{row.get('training') or row.get('product')} {row.get('mode')}"
        if "tokens_per_second" in row:
            yield ("torch", case, "tokens per second", row["tokens_per_second"])
        elif "tflops" in row:
            yield ("torch", case, "GFLOP per second", 1e3 * row["tflops"])


def main(results, header=None):
    folder = pathlib.Path(results)
    read = lambda name: (folder / name).read_text() if (folder / name).exists() else ""
    found = re.search(r"commit (\w+)", read("system.txt"))
    if not found:
        sys.exit(f"{folder}/system.txt names no commit")
    rows = [*bench(read("bench.txt")), *torch(read("torch.jsonl"))]
    if not rows:
        sys.exit(f"{folder} holds no rates")
    if header:
        print("commit,bench,case,measure,value")
    for bench_name, case, measure, value in rows:
        print(f'{found[1]},{bench_name},"{case}",{measure},{value:.4f}')


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
