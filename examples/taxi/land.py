"""Lands real taxi trips beside this file, a month at a time, as labelled data lands in production.

    python land.py --months 12                     # the first twelve; those that are there stay
    python land.py --months 12 --csv trips.csv     # the same, from another place
    python land.py --months 13 --again 13          # month 13 lands again

The trips are 15,002 that the City of Chicago published (2013 to 2016), as the TFX project
distributes them: tfx/examples/chicago_taxi_pipeline/data/simple/data.csv of its repository. Each
gets a `trip_id`, its row in that file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
from pathlib import Path

CSV = Path(__file__).resolve().parents[3] / "shared" / "data" / "taxi" / "data.csv"
KEY, TIME = "trip_id", "trip_start_timestamp"
DATA = Path(__file__).resolve().parent / "data"

Months = dict[str, list[dict[str, str]]]


def read_months(source: Path) -> Months:
    """The trips by the month in which they began (`2013-01`, UTC), in order.

    The cells as they stand in the file.
    """
    months: Months = {}
    with source.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=1):
            months.setdefault(month_of(int(row[TIME])), []).append(
                {KEY: f"trip-{number:05d}", **row}
            )
    return dict(sorted(months.items()))


def month_of(seconds: int) -> str:
    """The month of a time in seconds since 1970, as `2013-01`, UTC."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m}"


def land(folder: Path, month: str, rows: list[dict[str, str]]) -> Path:
    """Writes one month's file, complete before it is visible."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{month}.csv"
    temporary = path.with_suffix(".landing")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)
    return path


def main() -> None:
    """Lands what the command line asks for and says what it did."""
    parser = argparse.ArgumentParser(
        description="Land months of labelled taxi trips beside this file."
    )
    parser.add_argument(
        "--months",
        type=_count,
        required=True,
        metavar="N",
        help="land the first N months (at most 48)",
    )
    parser.add_argument(
        "--again",
        type=_count,
        action="append",
        default=[],
        metavar="N",
        help="land that month again",
    )
    parser.add_argument("--csv", type=Path, default=CSV, metavar="PATH", help="file of all trips")
    arguments = parser.parse_args()
    if not arguments.csv.is_file():
        parser.error(
            f"the file of all trips must exist. Received: {arguments.csv}. Name it with --csv; TFX "
            "has it as tfx/examples/chicago_taxi_pipeline/data/simple/data.csv in its repository"
        )
    months = list(read_months(arguments.csv).items())
    beyond = max([arguments.months, *arguments.again])
    if beyond > len(months):
        parser.error(f"there are {len(months)} months in {arguments.csv.name}. Received: {beyond}")
    for number, (month, rows) in enumerate(months, start=1):
        there = (DATA / f"{month}.csv").exists()
        if number in arguments.again or (number <= arguments.months and not there):
            print(
                f"landed {land(DATA, month, rows).name}: {len(rows)} trips"
                + (", again" if there else "")
            )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, received {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
