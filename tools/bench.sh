#!/bin/sh
# Runs every benchmark with the given Python, one after the other, and fails when one does:  sh tools/bench.sh PYTHON
set -u
failed=""
ran=0
for benchmark in benchmarks/[!_]*.py; do
    [ -f "$benchmark" ] || continue
    ran=$((ran + 1))
    echo "== $benchmark"
    "$1" "$benchmark" || failed="$failed $benchmark"
done
[ -z "$failed" ] || { echo "bench: all must reach their targets. Received: failure of$failed" >&2 && exit 1; }
[ "$ran" -gt 0 ] || echo "bench: there are no benchmarks in benchmarks/ yet"
