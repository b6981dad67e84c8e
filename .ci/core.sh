#!/usr/bin/env bash
# Prints the direct dependencies of the core, and fails unless the table of docs/EMBEDDING.md lists exactly these.
set -euo pipefail
cd "$(dirname "$0")/.."
found=$(cargo tree --locked --no-default-features -e normal --depth 1 --prefix none | tail -n +2)
echo "$found"
told=$(awk '/^## /{on = /What the core depends on/} on && /^\| `/' docs/EMBEDDING.md | cut -d'`' -f2)
diff <(cut -d' ' -f1 <<<"$found" | sort) <(sort <<<"$told") || { echo "the table of docs/EMBEDDING.md (>) is not that list (<)" >&2; exit 1; }
