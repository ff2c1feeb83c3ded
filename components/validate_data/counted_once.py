"""Leaves out of a span the rows that another span of the window counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from components.validate_data.gather import Measured
from components.validate_data.shared_keys import Surplus
from perennial.data.example_encoder import to_tfrecords
from perennial.data.examples import decode_records, read_records, split_files, text_of
from perennial.data.row_keys import digest_keys
from perennial.data.shown_examples import count_without, value_name, values_of
from perennial.data.worker_files import compressed
from perennial.errors import IntegrityError
from perennial.project import Project
from perennial.readers.rows import Reason
from perennial.spans.artifacts import DATA_DOCS, SET_ASIDE_FILE
from perennial.storage.atomic import link_file, link_tree
from perennial.storage.digests import digest_value
from schemas.records import CheckedSpan, SetAside

_RECORDS_AT_ONCE = 4096


def leave_out(
    project: Project, span: Measured, surplus: Surplus, names: Sequence[str], output: Path
) -> Measured:
    """Writes a span without the rows that other spans count; they are set aside, as others are.

    A file that keeps all its records is not copied but shared.

    Args:
        project: Names the key and the label.
        span: The span.
        surplus: The keys of its rows to leave out.
        names: The names of the spans, by their numbers.
        output: Becomes a folder as `check_examples` leaves it.

    Raises:
        IntegrityError: Its examples are not those whose keys were kept.
    """
    output.mkdir(parents=True)
    if (span.checked / SET_ASIDE_FILE).exists():
        before = (span.checked / SET_ASIDE_FILE).read_bytes()
        (output / SET_ASIDE_FILE).write_bytes(before)
    if (span.checked / DATA_DOCS).is_dir():
        link_tree(span.checked / DATA_DOCS, output / DATA_DOCS)
    record = span.record
    left = _LeftOut(record.labels)
    with (output / SET_ASIDE_FILE).open("a", encoding="utf-8") as lines:
        for file in map(Path, split_files(span.checked)):
            target = output / file.relative_to(span.checked)
            for line in _copy(project, file, target, surplus, names, span.name, left):
                lines.write(f"{line}\n")
    gone = sum(left.rows.values())
    if gone != len(surplus.high):
        raise IntegrityError(
            f"the examples of span {span.name}",
            f"must have the {len(surplus.high)} keys that other spans have, too",
            gone,
            "Remove what was kept of it (`artifacts` in the state folder), then run again.",
        )
    CheckedSpan(
        span=record.span,
        columns=record.columns,
        rows={split: count - left.rows[split] for split, count in record.rows.items()},
        labels=count_without(record.labels, left.labels),
        set_aside=record.set_aside + gone,
        checks=record.checks,
        content=digest_value([record.content, left.digest]),
    ).write(output)
    return Measured(output, span.statistics)


@dataclass
class _LeftOut:
    """Tally of what was left out so far: rows by split, labels, and a digest of the keys.

    Of labels that the span does not count, as they are too many, nothing is kept.
    """

    counted_labels: Collection[str]
    rows: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    digest: str = ""


def _copy(
    project: Project,
    file: Path,
    target: Path,
    surplus: Surplus,
    names: Sequence[str],
    span: str,
    left: _LeftOut,
) -> Iterator[str]:
    """Copies a file of examples without those to leave out; gives a line for each of these."""
    import tensorflow as tf

    key, label = project.settings.data.key, project.settings.label
    split = file.parent.name.removeprefix("Split-")
    repeated = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}")
    with temporary.open("wb") as plain, compressed(plain) as written:
        for records in _batches(file):
            digests = digest_keys(_keys_of(project, records))
            places = surplus.find(digests)
            written.write(
                to_tfrecords(
                    record for record, place in zip(records, places, strict=True) if place < 0
                )
            )
            gone = np.flatnonzero(places >= 0).tolist()
            repeated += len(gone)
            if gone:
                left.digest = digest_value([left.digest, digests[gone].tobytes().hex()])
            for number in gone:
                example = tf.train.Example.FromString(records[number])
                if (value := value_name(example, label)) in left.counted_labels:
                    left.labels[value] += 1
                reason = _explain(key, value_name(example, key), surplus, places[number], names)
                yield SetAside(
                    span=span,
                    place=f"{key} {value_name(example, key)}",
                    reasons=[str(reason)],
                    values=values_of(example),
                ).model_dump_json()
    left.rows[split] += repeated
    if repeated:
        temporary.replace(target)
    else:
        temporary.unlink()
        link_file(file, target)


def _explain(key: str, value: str, surplus: Surplus, place: int, names: Sequence[str]) -> Reason:
    kind = "the same values" if surplus.same[place] else "other values"
    received = f"{value}, which span {names[surplus.holder[place]]} has too, with {kind}"
    return Reason(f"`{key}` (data.key) must be unique in the window", received)


def _batches(file: Path) -> Iterator[list[bytes]]:
    records: list[bytes] = []
    for record in read_records([str(file)]):
        records.append(record)
        if len(records) == _RECORDS_AT_ONCE:
            yield records
            records = []
    if records:
        yield records


def _keys_of(project: Project, records: list[bytes]) -> list[bytes]:
    """Reads the keys of serialised examples as text in UTF-8."""
    batch = decode_records(records)
    column = batch.column(batch.schema.get_field_index(project.settings.data.key))
    return [text_of(value).encode() for value in column.to_pylist()]
