"""The taxi example with spans of any size.

The real trips again and again, each with an id of its own.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from _figures import ROOT

TAXI = ROOT / "examples" / "taxi"
KEY = "trip_id"
# Rules of the example about its own months and ids.
MONTH_RULES = ("expect_table_row_count_to_be_between", "expect_column_values_to_match_regex")
JITTERED = (
    "fare",
    "trip_miles",
    "pickup_latitude",
    "pickup_longitude",
    "dropoff_latitude",
    "dropoff_longitude",
)


@dataclass(frozen=True)
class Trips:
    """The real trips. Spans are cut in turn.

    Windows as long as the file have the same rows at every start.
    """

    columns: list[str]
    rows: list[list[str]]

    @classmethod
    def read(cls, path: Path) -> Trips:
        """Reads the file as it stands."""
        with path.open(newline="", encoding="utf-8") as stream:
            columns, *rows = csv.reader(stream)
        return cls(columns, rows)

    def write_span(self, path: Path, number: int, size: int, *, jitter: bool = False) -> None:
        """Writes span `number` (from 0) of spans of this size; it is complete before it is visible.

        Args:
            path: The file to write.
            number: Which span.
            size: Rows of each span.
            jitter: Whether numbers are moved by up to 1%, so that repeated trips are not the same.
        """
        draw = random.Random(number)
        moved = [self.columns.index(name) for name in JITTERED] if jitter else []
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".landing")
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([KEY, *self.columns])
            for place in range(number * size, (number + 1) * size):
                row = self.rows[place % len(self.rows)]
                if moved:
                    row = list(row)
                    for column in moved:
                        row[column] = row[column] and repr(
                            float(row[column]) * (1 + draw.uniform(-0.01, 0.01))
                        )
                writer.writerow([f"trip-{place:09d}", *row])
        os.replace(temporary, path)


def make_project(folder: Path, window: int, train_steps: int, eval_steps: int) -> Path:
    """Makes the taxi example with other sizes, and a gate that promotes every candidate."""
    folder.mkdir(parents=True)
    shutil.copy(TAXI / "schema.pbtxt", folder)
    suite = json.loads((TAXI / "expectations.json").read_text(encoding="utf-8"))
    suite["expectations"] = [
        rule for rule in suite["expectations"] if rule["type"] not in MONTH_RULES
    ]
    (folder / "expectations.json").write_text(json.dumps(suite), encoding="utf-8")
    settings: dict[str, Any] = yaml.safe_load((TAXI / "project.yaml").read_text(encoding="utf-8"))
    settings["data"]["window"] = window
    settings["run_fn"] |= {"train_steps": train_steps, "eval_steps": eval_steps}
    tolerant = {"mode": "not_worse", "margin": 100.0, "floors": {}, "trivial": "warn"}
    settings["gate"] |= tolerant
    (folder / "project.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder
