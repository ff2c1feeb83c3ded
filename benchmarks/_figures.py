"""Ends every benchmark.

With a table, one line of figures beside their targets, and a record for later days.

    if __name__ == "__main__":
        sys.exit(conclude("cycle", [Figure("cold, beside TFX", 0.7, at_most=0.8)], began))

`--save` on the command line of any benchmark adds its figures to `benchmarks/results/<date>.json`,
with the machine, the versions and the load it was measured under. `python benchmarks/history.py`
shows them beside those of earlier days.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Real taxi trips; they are not part of the repository.
TAXI_CSV = ROOT.parent / "shared" / "data" / "taxi" / "data.csv"
VERSIONS = ("tensorflow", "tfx", "keras", "apache-beam", "kfp", "pyarrow")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    With neither `at_most` nor `at_least` it has no target, and lower counts as better.

    Prefer ratios to a peer in the same run: machines differ, and so does what else they do.
    """

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    def met(self) -> bool:
        """Tells whether the target is met; a figure without one always meets it."""
        above = self.at_most is not None and not self.value <= self.at_most
        below = self.at_least is not None and not self.value >= self.at_least
        return not (above or below)

    def __str__(self) -> str:
        """The figure beside its target, such as `cold 0.71 (target: at most 0.8)`."""
        text = f"{self.name} {show_number(self.value)}{self.unit}"
        if self.at_most is not None:
            text += f" (target: at most {self.at_most:g}{self.unit}"
        elif self.at_least is not None:
            text += f" (target: at least {self.at_least:g}{self.unit}"
        else:
            return text
        return text + (")" if self.met() else ", missed)")


def show_number(value: float) -> str:
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a Markdown table; all columns but the first hold numbers."""
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def conclude(benchmark: str, figures: Sequence[Figure], began: float) -> int:
    """Prints the last line and, with `--save`, keeps the figures.

    Gives the exit code, 1 when a target is missed.

    Args:
        benchmark: The file's name without `.py`.
        figures: All that was measured, the most telling first.
        began: `time.monotonic()` at the start of the benchmark.
    """
    seconds = time.monotonic() - began
    if "--save" in sys.argv:
        save(benchmark, figures, seconds)
    print(
        f"{benchmark}: " + "; ".join(str(figure) for figure in figures) + f"; took {seconds:.0f} s"
    )
    return 0 if all(figure.met() for figure in figures) else 1


def skip_without(path: Path) -> None:
    """Ends the benchmark, without an error, where data that is not in the repository is absent."""
    if not path.exists():
        print(f"skipped: {path.name} must be in {path.parent}, and is not there")
        sys.exit(0)


def save(benchmark: str, figures: Sequence[Figure], seconds: float) -> None:
    """Adds one benchmark's figures to the file of today."""
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y-%m-%d}.json"
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    record = {
        "benchmark": benchmark,
        "at": f"{now:%Y-%m-%d %H:%M} UTC",
        "seconds": round(seconds),
        "full": "--full" in sys.argv,
        **describe_surroundings(),
        "figures": [{key: value for key, value in asdict(figure).items() if value not in (None, "")}
                    for figure in figures],
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([*records, record], indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def describe_surroundings() -> dict[str, Any]:
    """Describes the machine, the versions, this checkout's commit, and how busy the machine is."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "unknown",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in VERSIONS}
    return {
        "machine": {
            "cpu": model,
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory / 2**30, 1),
        },
        "versions": versions,
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "load": round(os.getloadavg()[0], 1),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True
    )
    return done.stdout.strip()
