"""Sets rows aside: how many may be, and publishing a span's examples without them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perennial.data.examples import read_records, split_files
from perennial.storage.atomic import link_tree
from schemas.project import Severity
from schemas.records import Check

if TYPE_CHECKING:
    import tensorflow as tf

_CAUSES_SHOWN = 3


@dataclass(frozen=True)
class RowsDecision:
    """A decision on rows that broke an expectation, and the verdict on a span's rows."""

    set_aside: bool
    verdict: Literal["passed", "set_aside", "failed"]


def decide_rows(
    ingested: int, already: int, failing: int, limit: float, settled: bool = True
) -> RowsDecision:
    """Decides whether the rows that broke an expectation are set aside.

    They are when they and the rows that ingestion set aside before are together at most `limit` of
    all rows of the span; then their expectations do not fail. Otherwise none of them is, and their
    expectations fail with their own severity. The rows themselves fail only when those that
    ingestion set aside are more than `limit` already, or when there is no row at all; what
    ingestion set aside stays so in every case.

    Args:
        ingested: Rows that became examples.
        already: Rows that ingestion set aside; they are none of `ingested`.
        failing: Those of `ingested` that broke an expectation whose failure is more than a warning.
        limit: The share of `ingested + already` that may be set aside, from 0 to less than 1.
        settled: Whether every expectation holds once they are set aside.
    """
    total = ingested + already
    if not total or already / total > limit:
        return RowsDecision(set_aside=False, verdict="failed")
    set_aside = settled and failing > 0 and (already + failing) / total <= limit
    return RowsDecision(
        set_aside=set_aside, verdict="set_aside" if already or set_aside else "passed"
    )


def check_rows(
    decision: RowsDecision,
    counts: tuple[int, int, int],
    limit: float,
    severity: Severity,
    causes: Mapping[str, int],
) -> Check:
    """Makes the check of a span's rows.

    Args:
        decision: What `decide_rows` made of the counts.
        counts: Its `ingested`, `already` and `failing`.
        limit: The share that may be set aside.
        severity: What a failure does.
        causes: How many of the rows that were set aside had which cause.
    """
    ingested, already, failing = counts
    total = ingested + already
    gone = already + (failing if decision.set_aside else 0)
    most = sorted(causes.items(), key=lambda cause: -cause[1])
    named = ", ".join(f"{cause} ({count})" for cause, count in most[:_CAUSES_SHOWN])
    named += f" and {len(most) - _CAUSES_SHOWN} more" if len(most) > _CAUSES_SHOWN else ""
    counted = f"{gone} of {total} rows{_share(gone, total)}"
    if decision.verdict == "failed":
        message = (
            f"expected at most {_percent(limit)} of the rows to be set aside; received {counted}: "
            f"{named}"
        )
        message = message if total else "expected rows; received none"
    elif decision.verdict == "set_aside":
        message = f"{counted} were set aside: {named}"
    else:
        message = f"none of {total} rows was set aside"
    if failing and not decision.set_aside:
        few = (already + failing) / total <= limit
        why = (
            "once they are gone, other rows break one"
            if few
            else f"at most {_percent(limit)} may be set aside"
        )
        message += f"; {failing} more{_share(failing, total)} broke an expectation and stay: {why}"
    return Check(
        kind="rows", subject="table", verdict=decision.verdict, message=message, severity=severity
    )


def write_examples(
    source: Path, output: Path, excluded: Collection[int]
) -> list[tuple[str, tf.train.Example]]:
    """Writes the examples of `source` to `output`, file by file, without those at `excluded`.

    A file that keeps all its records is not copied but shared. Positions count through
    `split_files(source)`.

    Returns:
        The split and the contents of each example that was left out, in the order of their
        positions.
    """
    import tensorflow as tf

    for split in sorted(source.glob("Split-*")):
        link_tree(split, output / split.name)
    left_out: list[tuple[str, tf.train.Example]] = []
    if not excluded:
        return left_out
    start = 0
    for file in map(Path, split_files(source)):
        end, gone = start, []
        for end, record in enumerate(read_records([str(file)]), start + 1):
            if end - 1 in excluded:
                gone.append(record)
        if gone:
            _rewrite(file, output / file.relative_to(source), start, excluded)
        name = file.parent.name.removeprefix("Split-")
        left_out += [(name, tf.train.Example.FromString(record)) for record in gone]
        start = end
    return left_out


def _rewrite(source: Path, file: Path, start: int, left_out: Collection[int]) -> None:
    """Writes the records of `source`, whose positions begin at `start`, but those to set aside."""
    import tensorflow as tf

    file.unlink()  # the bytes are shared with the source: writing into them would change it
    with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
        for place, record in enumerate(read_records([str(source)]), start):
            if place not in left_out:
                writer.write(record)


def _share(part: int, total: int) -> str:
    return f" ({_percent(part / total)})" if total else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
