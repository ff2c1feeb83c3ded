"""Small projects and checked spans for the tests of `validate_data`, without the steps before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from perennial.data.distributions import Distribution
from perennial.project import Project, load_project
from schemas.records import Check, CheckedSpan, Span

COLUMNS = ["id", "fare", "zone", "label"]
SCHEMA = """
default_environment: "TRAINING"
default_environment: "SERVING"
feature { name: "id" type: BYTES presence { min_fraction: 1 min_count: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "fare" type: FLOAT presence { min_fraction: 1 min_count: 1 } shape {} }
feature { name: "zone" type: BYTES presence { min_count: 1 } shape {} }
feature { name: "label" type: INT presence { min_fraction: 1 min_count: 1 } shape {} not_in_environment: "SERVING"
  int_domain { name: "label" min: 0 max: 1 is_categorical: true } }
"""


def make_project(
    folder: Path, checks: dict[str, Any] | None = None, schema: str = SCHEMA, **data: Any
) -> Project:
    """A project whose settings are few and whose model nobody needs."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "name": "fares",
        "label": "label",
        "data": {"spans": "data/{SPAN}.csv", "key": "id", **data},
        "checks": checks or {},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    (folder / "schema.pbtxt").write_text(schema)
    return load_project(folder)


def make_rows(
    day: int,
    rows: int = 300,
    fare: float = 10.0,
    zone: float = 0.5,
    without: float = 0.0,
    again: tuple[int, int] = (0, 0),
    dearer: float = 0.0,
) -> list[Any]:
    """Rows of one day, the same every time.

    `fare` is a mean, `zone` the share of "a", `without` that of no zone. `again` is another day and
    how many of its rows land again, in another order; their fares are `dearer` by this much.
    """
    other, repeated = again
    if repeated:
        old = make_rows(other)[:repeated]
        old = [{**row, "fare": row["fare"] + dearer} for row in reversed(old)]
        return [*old, *make_rows(day, rows)[repeated:]]
    rng = np.random.default_rng(day)
    zones = np.where(rng.random(rows) < zone, "a", "b")
    return [
        {
            "id": f"{day}-{number}",
            "fare": float(rng.normal(fare, 3)),
            "zone": None if rng.random() < without else str(zones[number]),
            "label": int(rng.random() < 0.3),
        }
        for number in range(rows)
    ]


def make_record(project: Project, name: str, **changes: Any) -> CheckedSpan:
    """What `check_examples` would leave of a good span."""
    path = project.folder / "data" / f"{name}.csv"
    readable = Check(kind="readable", subject=path.name, verdict="passed", message="read whole")
    fields: dict[str, Any] = {
        "span": Span(name=name, version=1, uri=str(path), fingerprint=name),
        "columns": COLUMNS,
        "rows": {},
        "labels": {},
        "set_aside": 0,
        "checks": [readable],
        "content": name,
    }
    return CheckedSpan(**(fields | changes))


def numbers(values: Any, missing: int = 0) -> Distribution:
    """The distribution of numbers, one in each example but `missing` ones."""
    knots, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    return Distribution(
        len(values) + missing,
        missing,
        len(values),
        None,
        knots,
        np.cumsum(counts).astype(np.float64),
    )


def categories(counts: dict[str, int], missing: int = 0, several: int = 1) -> Distribution:
    """The distribution of categories; each example has `several` equal ones."""
    total = sum(counts.values())
    return Distribution(
        total + missing,
        missing,
        total * several,
        {name: count * several for name, count in counts.items()},
        None,
        None,
    )
