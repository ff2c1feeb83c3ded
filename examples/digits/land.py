"""Lands real handwritten digits beside this file, a day at a time.

    python land.py --days 3                             # days 1 to 3; those that are there stay
    python land.py --days 3 --corrupt 3=wrong-range     # the same, with day 3 broken
    python land.py --days 3 --again 3                   # day 3 lands again, as it should be

The digits are the 1,797 that scikit-learn ships (UCI's "Optical Recognition of Handwritten
Digits"), in a fixed order, about 150 a day for twelve days.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAYS = 12
FIRST_DAY = datetime.date(2026, 1, 1)
ORDER_SEED = 20260101


def digits_of_day(day: int) -> pa.Table:
    """The labelled images of one day (1 to 12).

    Id, date, image (64 floats from 0 to 16, row by row) and label.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(ORDER_SEED).permutation(len(images))
    chosen = np.array_split(order, DAYS)[day - 1]
    return pa.table(
        {
            "id": [f"digit-{number:04d}" for number in chosen],
            "date": [date_of_day(day)] * len(chosen),
            "image": pa.array(
                [images[number].astype("float32") for number in chosen], pa.list_(pa.float32())
            ),
            "label": pa.array(labels[chosen].astype("int64")),
        }
    )


def date_of_day(day: int) -> str:
    """ISO date of a day's landing; day 1 is 2026-01-01."""
    return (FIRST_DAY + datetime.timedelta(days=day - 1)).isoformat()


def wrong_range(table: pa.Table) -> pa.Table:
    """Pixels from 0 to 255, as if another scanner had been plugged in."""
    images = [[value * 255 / 16 for value in image] for image in table["image"].to_pylist()]
    return table.set_column(2, "image", pa.array(images, pa.list_(pa.float32())))


def missing_labels(table: pa.Table) -> pa.Table:
    """Every third label is missing, as if the labelling had stopped early."""
    labels = [
        None if row % 3 == 0 else label for row, label in enumerate(table["label"].to_pylist())
    ]
    return table.set_column(3, "label", pa.array(labels, pa.int64()))


def shuffled_columns(table: pa.Table) -> pa.Table:
    """Exchanges the names of values, as if a producer had written columns in another order."""
    return table.rename_columns(["date", "label", "image", "id"]).select(
        ["id", "date", "image", "label"]
    )


CORRUPTIONS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "wrong-range": wrong_range,
    "missing-labels": missing_labels,
    "shuffled-columns": shuffled_columns,
}
TRUNCATED = "truncated-file"


def land(folder: Path, day: int, corruption: str | None = None) -> Path:
    """Writes one day's file, complete before it is visible.

    A truncated one is cut after 60% of its bytes.
    """
    table = digits_of_day(day)
    if corruption in CORRUPTIONS:
        table = CORRUPTIONS[corruption](table)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date_of_day(day)}.parquet"
    temporary = path.with_suffix(".landing")
    pq.write_table(table, temporary)
    if corruption == TRUNCATED:
        os.truncate(temporary, int(temporary.stat().st_size * 0.6))
    os.replace(temporary, path)
    return path


def main() -> None:
    """Lands what the command line asks for and says what it did."""
    parser = argparse.ArgumentParser(description="Land days of labelled digits beside this file.")
    parser.add_argument(
        "--days", type=_day, required=True, metavar="N", help=f"land days 1 to N (at most {DAYS})"
    )
    parser.add_argument(
        "--corrupt",
        type=_corruption,
        action="append",
        default=[],
        metavar="DAY=KIND",
        # Fmt: skip.
        help=f"land that day broken: {', '.join([*CORRUPTIONS, TRUNCATED])}",
    )
    parser.add_argument(
        "--again", type=_day, action="append", default=[], metavar="DAY", help="land that day again"
    )
    arguments = parser.parse_args()
    corrupt = dict(arguments.corrupt)
    beyond = [day for day in [*corrupt, *arguments.again] if day > arguments.days]
    if beyond:
        parser.error(f"day {beyond[0]} is beyond --days {arguments.days}; raise --days")
    folder = Path(__file__).resolve().parent / "data"
    for day in range(1, arguments.days + 1):
        there = (folder / f"{date_of_day(day)}.parquet").exists()
        if there and day not in corrupt and day not in arguments.again:
            continue
        path = land(folder, day, corrupt.get(day))
        print(
            f"landed {path.name}: day {day}"
            + (f", {corrupt[day]}" if day in corrupt else "")
            + (", again" if there else "")
        )


def _day(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= DAYS:
        raise argparse.ArgumentTypeError(f"expected a day from 1 to {DAYS}, received {text!r}")
    return int(text)


def _corruption(text: str) -> tuple[int, str]:
    day, _, kind = text.partition("=")
    kind = kind.replace("_", "-")
    if kind not in [*CORRUPTIONS, TRUNCATED]:
        known = ", ".join([*CORRUPTIONS, TRUNCATED])
        raise argparse.ArgumentTypeError(
            f"expected DAY=KIND with KIND one of {known}, received {text!r}"
        )
    return _day(day), kind


if __name__ == "__main__":
    sys.exit(main())
