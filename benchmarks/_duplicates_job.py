"""The window of `duplicates.py`, and the check for rows that several of its spans have.

    python benchmarks/_duplicates_job.py make SPANS ROWS FOLDER
    python benchmarks/_duplicates_job.py measure SPANS ROWS FOLDER

`measure` prints the name and processor seconds of each part as JSON, after a line `begin` that
waits for an answer: the libraries are imported then, and nothing was done.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _width_job import digest, make_project, timed

from perennial.project import load_project
from perennial.tfx_compat import prepare_process

COLUMNS = 3
KNOWN = 0.1  # share of the newest span's rows that older spans have


def main() -> None:
    """Makes a window, or measures the check of it."""
    actions: dict[str, Callable[[int, int, Path], None]] = {
        "make": make_window,
        "measure": measure_check,
    }
    actions[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))


def make_window(spans: int, rows: int, folder: Path) -> None:
    """Ingests the newest span; of the older ones there are the keys and the records."""
    from components.ingest_examples.step import ingest_examples
    from perennial.data.row_keys import ROW_KEY, read_row_keys, write_row_keys
    from schemas.records import Span

    prepare_process()
    project = make_project(folder / "project", COLUMNS, rows, together=False)
    data = project.folder / "data" / "1.csv"
    span = Span(name=_name(spans - 1), version=1, uri=str(data), fingerprint=digest(data))
    newest = folder / span.name
    ingested = ingest_examples(project, span, newest)
    write_record(newest, span, ingested.rows)
    keys = np.array(read_row_keys(newest))
    random = np.random.default_rng(1)
    known = np.array_split(random.permutation(keys)[: int(KNOWN * rows)], spans - 1)
    for number, repeated in enumerate(known):
        older = np.empty(rows, ROW_KEY)
        for field in ("high", "low", "values"):
            older[field] = random.integers(0, 2**64, rows, np.uint64)
        older[: len(repeated)] = repeated
        place = folder / _name(number)
        place.mkdir()
        write_row_keys([older[np.lexsort((older["low"], older["high"]))]], rows, place)
        write_record(place, span.model_copy(update={"name": place.name}), {"train": rows})


def write_record(folder: Path, span: Any, rows: dict[str, int]) -> None:
    """Writes what `check_examples` leaves of a good span beside its examples and keys."""
    from schemas.records import CheckedSpan

    CheckedSpan(
        span=span, columns=[], rows=rows, labels={}, set_aside=0, checks=[], content=span.name
    ).write(folder)


def measure_check(spans: int, rows: int, folder: Path) -> None:
    """Merges the keys of a window, checks its newest span, and leaves out what older ones count."""
    import tensorflow  # noqa: F401  so that no part's seconds hold its import

    from components.validate_data.gather import Measured
    from components.validate_data.repetitions import Repetitions

    prepare_process()
    project = load_project(folder / "project")
    _ = project.schema
    window = [Measured(folder / _name(number), folder / "none") for number in range(spans)]
    newest = spans - 1
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        work = Path(scratch)
        print("begin", flush=True)
        sys.stdin.readline()
        repetitions = timed("merge the keys", lambda: Repetitions(project, window, work, {}))
        check = timed("check the new span", lambda: repetitions.check(newest, range(newest)))
        counted = timed("leave out known rows", lambda: repetitions.count_once(range(spans)))
        print("end", flush=True)
        gone = counted[newest].record.set_aside
    if check.verdict != "set_aside" or gone != int(KNOWN * rows):
        sys.exit(f"error: {KNOWN:.0%} of {rows} rows must be known. Received: {gone} {check}")


def _name(number: int) -> str:
    return f"span-{number:03}"


if __name__ == "__main__":
    main()
