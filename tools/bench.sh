#!/bin/sh
# Runs the benchmarks with the given Python, one after the other, keeps their figures in benchmarks/results, shows them
# beside those of earlier days, and fails when one misses its target:  sh tools/bench.sh PYTHON
# Without ALL=1 those that decide how long a person waits; with it all, each as thorough as it can be, which takes hours.
set -u
failed=""
run() {
    echo "== $*"
    "$python" "$@" --save || failed="$failed $1"
}
python=$1
if [ "${ALL:-}" = 1 ]; then
    for benchmark in benchmarks/[!_]*.py; do
        [ "$benchmark" = benchmarks/history.py ] || run "$benchmark" # it shows figures, and measures none
    done
    run benchmarks/growth.py --full
    run benchmarks/swap.py --full
    run benchmarks/columns.py --rows 1500000 --rounds 1
else
    run benchmarks/cycle.py --rounds 1
    run benchmarks/columns.py --rounds 1
    run benchmarks/nothing_new.py
    run benchmarks/predict.py
fi
echo "== figures beside earlier ones"
"$python" benchmarks/history.py
[ -z "$failed" ] || { echo "bench: all must reach their targets. Received: failure of$failed" >&2 && exit 1; }
