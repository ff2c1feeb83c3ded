"""Measures how the steps of a span grow with its columns, beside TensorFlow Transform alone.

Fifty rows of numbers, each column scaled by its mean and deviation. TensorFlow Transform alone
analyses the same examples by its own `AnalyzeDataset`, without Perennial.

    python benchmarks/width.py                          # 10 to 300 columns
    python benchmarks/width.py --columns 1000           # minutes
    python benchmarks/width.py --columns 5000 --seconds 7200
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _figures import Figure, conclude, print_table

COLUMNS = (10, 30, 100, 300)
ROWS = 50
SECONDS = 1800  # that a width may take; what it did until then is told
JOB = Path(__file__).parent / "_width_job.py"
ALONE = "TensorFlow Transform alone"


def main() -> int:
    """Measures each width in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description="Measure how steps grow with the columns.")
    parser.add_argument(
        "--columns", type=int, nargs="+", default=COLUMNS, metavar="N", help="widths"
    )
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"(default: {ROWS})")
    parser.add_argument(
        "--seconds",
        type=int,
        default=SECONDS,
        metavar="N",
        help=f"that a width may take (default: {SECONDS})",
    )
    parser.add_argument(
        "--together", action="store_true", help="one analyser for all columns as a vector"
    )
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    costs = {
        columns: measure(columns, arguments.rows, arguments.together, arguments.seconds)
        for columns in arguments.columns
    }
    parts = list(dict.fromkeys(part for cost in costs.values() for part in cost))
    print_table(
        ("processor seconds", *(f"{columns:,} columns" for columns in costs)),
        [
            (part, *(f"{cost[part]:.1f}" if part in cost else "–" for cost in costs.values()))
            for part in parts
        ],
    )
    ratios = [
        cost["analyse_features"] / cost[ALONE]
        for cost in costs.values()
        if "analyse_features" in cost and ALONE in cost
    ]
    figures = [Figure("analyse_features beside TensorFlow Transform alone", max(ratios, default=0))]
    return conclude("width", figures, began)


def measure(columns: int, rows: int, together: bool, seconds: int) -> dict[str, float]:
    """Runs the steps at one width; gives their processor seconds, of those that ended in time."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(JOB), str(columns), str(rows), folder]
        command += ["together"] if together else []
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=seconds
            )
            output = done.stdout
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"").decode()
            print(f"  {columns:,} columns: not done in {seconds} s", file=sys.stderr)
        else:
            if done.returncode:
                sys.exit(f"error: {columns} columns must work. Received:\n{done.stderr[-2000:]}")
    parts = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    print(f"  {columns:,} columns: {dict(parts)}", file=sys.stderr, flush=True)
    return dict(parts)


if __name__ == "__main__":
    sys.exit(main())
