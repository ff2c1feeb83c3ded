#!/bin/sh
# Runs every benchmark with the given Python, one after the other, keeps their figures in benchmarks/results, shows them
# beside those of earlier days, and fails when one misses its target:  sh tools/bench.sh PYTHON
set -u
failed=""
for benchmark in benchmarks/[!_]*.py; do
    case $benchmark in
    benchmarks/history.py) continue ;; # shows figures, measures none
    benchmarks/cycle.py) arguments="--rounds 1" ;; # three rounds alone would take the time that all may take
    *) arguments="" ;;
    esac
    echo "== $benchmark"
    # shellcheck disable=SC2086 # arguments are words
    "$1" "$benchmark" $arguments --save || failed="$failed $benchmark"
done
echo "== figures beside earlier ones"
"$1" benchmarks/history.py
[ -z "$failed" ] || { echo "bench: all must reach their targets. Received: failure of$failed" >&2 && exit 1; }
