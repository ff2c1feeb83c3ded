"""Shows the newest figures of each benchmark beside those of earlier days.

Reads `benchmarks/results/*.json`. A figure is marked when it is worse than the median of the
earlier ones by more than
a quarter. Machines differ: ratios to a peer can be compared between them, seconds cannot.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from _figures import RESULTS, print_table, show_number

WORSE = 1.25
EARLIER = 5


def main() -> None:
    """Prints one table for each benchmark."""
    records = read_results(RESULTS)
    for benchmark in sorted({record["benchmark"] for record in records}):
        *earlier, newest = [record for record in records if record["benchmark"] == benchmark]
        print(f"\n{benchmark}, {newest['at']}, commit {newest['commit']}, load {newest['load']}")
        rows = [compare(figure, earlier) for figure in newest["figures"]]
        print_table(
            ("figure", "target", "now", f"the {EARLIER} before, newest first", "note"), rows
        )


def read_results(folder: Path) -> list[dict[str, Any]]:
    """All records, oldest first."""
    records = [
        record
        for path in sorted(folder.glob("*.json"))
        for record in json.loads(path.read_text("utf-8"))
    ]
    return sorted(records, key=lambda record: record["at"])


def compare(figure: dict[str, Any], earlier: list[dict[str, Any]]) -> tuple[str, ...]:
    """One row.

    The figure, its target, its value, the newest earlier values, and whether it became worse.
    """
    values = [
        other["value"]
        for record in earlier
        for other in record["figures"]
        if other["name"] == figure["name"]
    ]
    higher_is_better = "at_least" in figure
    target = (
        f"≥ {figure['at_least']:g}"
        if higher_is_better
        else f"≤ {figure['at_most']:g}"
        if "at_most" in figure
        else ""
    )
    note = ""
    if values:
        now, before = figure["value"], median(values)
        worse = now * WORSE < before if higher_is_better else now > before * WORSE
        note = "worse" if worse else ""
    shown = ", ".join(show_number(value) for value in reversed(values[-EARLIER:]))
    return (
        f"{figure['name']}",
        target,
        f"{show_number(figure['value'])}{figure.get('unit', '')}",
        shown,
        note,
    )


if __name__ == "__main__":
    main()
