"""Sets rows aside: how many may be, and publishing a span's examples without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perennial.data.examples import as_text, read_records, split_files
from perennial.storage.atomic import link_tree
from schemas.project import Severity
from schemas.records import Check

if TYPE_CHECKING:
    import tensorflow as tf

_CAUSES_SHOWN = 3
_VALUES_SHOWN = 8
_CHARACTERS_SHOWN = 200


@dataclass(frozen=True)
class RowsDecision:
    """A decision on rows that broke an expectation, and the verdict on a span's rows."""

    aside: bool
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
        return RowsDecision(aside=False, verdict="failed")
    aside = settled and failing > 0 and (already + failing) / total <= limit
    return RowsDecision(aside=aside, verdict="set_aside" if already or aside else "passed")


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
    gone = already + (failing if decision.aside else 0)
    most = sorted(causes.items(), key=lambda cause: -cause[1])
    named = ", ".join(f"{cause} ({count})" for cause, count in most[:_CAUSES_SHOWN])
    named += f" and {len(most) - _CAUSES_SHOWN} more" if len(most) > _CAUSES_SHOWN else ""
    found = f"{gone} of {total} rows{_share(gone, total)}"
    if decision.verdict == "failed":
        message = (
            f"expected at most {_percent(limit)} of the rows to be set aside; received {found}: "
            f"{named}"
        )
        message = message if total else "expected rows; received none"
    elif decision.verdict == "set_aside":
        message = f"{found} were set aside: {named}"
    else:
        message = f"none of {total} rows was set aside"
    if failing and not decision.aside:
        few = (already + failing) / total <= limit
        why = (
            "without them others break one"
            if few
            else f"at most {_percent(limit)} may be set aside"
        )
        message += f"; {failing} more{_share(failing, total)} broke an expectation and stay: {why}"
    return Check(
        kind="rows", subject="table", verdict=decision.verdict, message=message, severity=severity
    )


def write_examples(
    source: Path, output: Path, aside: Collection[int]
) -> list[tuple[str, tf.train.Example]]:
    """Writes the examples of `source` to `output`, file by file, without those at `aside`.

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
    if not aside:
        return left_out
    start = 0
    for file in map(Path, split_files(source)):
        end, gone = start, []
        for end, record in enumerate(read_records([str(file)]), start + 1):
            if end - 1 in aside:
                gone.append(record)
        if gone:
            _rewrite(file, output / file.relative_to(source), start, aside)
        name = file.parent.name.removeprefix("Split-")
        left_out += [(name, tf.train.Example.FromString(record)) for record in gone]
        start = end
    return left_out


def _rewrite(source: Path, file: Path, start: int, aside: Collection[int]) -> None:
    """Writes the records of `source`, whose positions begin at `start`, but those to set aside."""
    import tensorflow as tf

    file.unlink()  # the bytes are shared with the source: writing into them would change it
    with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
        for place, record in enumerate(read_records([str(source)]), start):
            if place not in aside:
                writer.write(record)


def values_of(example: tf.train.Example) -> dict[str, Any]:
    """Shows an example's values: one as it is, several as a list; long ones are shortened."""
    return {
        name: _shown(_values(feature)) for name, feature in sorted(example.features.feature.items())
    }


def value_name(example: tf.train.Example, feature: str) -> str:
    """Gives the value of a feature as counts do: `missing` where there is none."""
    kind = (
        example.features.feature[feature].WhichOneof("kind")
        if feature in example.features.feature
        else None
    )
    values = getattr(example.features.feature[feature], kind).value if kind else []
    if not values:
        return "missing"
    return (
        values[0].decode("utf-8", errors="backslashreplace")
        if isinstance(values[0], bytes)
        else str(values[0])
    )


def count_without(counts: Mapping[str, int], gone: list[str]) -> dict[str, int]:
    """Subtracts counts by name; a name of which none is left is dropped."""
    left = Counter(gone)
    return {name: count - left[name] for name, count in counts.items() if count > left[name]}


def _values(feature: tf.train.Feature) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return [as_text(value) for value in getattr(feature, kind).value] if kind else []


def _shown(values: list[Any]) -> Any:
    shown = [_shortened(value) for value in values[:_VALUES_SHOWN]]
    if len(values) == 1:
        return shown[0]
    return [*shown, f"… {len(values)} values"] if len(values) > _VALUES_SHOWN else shown


def _shortened(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _CHARACTERS_SHOWN:
        return value
    return f"{value[:_CHARACTERS_SHOWN]}… {len(value)} characters"


def _share(part: int, total: int) -> str:
    return f" ({_percent(part / total)})" if total else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
