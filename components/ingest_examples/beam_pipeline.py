"""The Beam pipeline that reads the parts of a span in parallel and writes their rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.util import ReshufflePerKey

from components.ingest_examples.duplicates import Duplicate, find_duplicates
from components.ingest_examples.part_reader import KEYS, SET_ASIDE, TALLY, Plan, read_part
from components.ingest_examples.tallies import Tally, Total
from perennial.data.beam import make_pipeline
from perennial.data.example_sink import TFRecordBatchSink
from perennial.data.examples import split_prefix
from schemas.project import SPLITS

_DUPLICATES = "duplicates"


@dataclass(frozen=True)
class Reading:
    """Results of a reading beside its examples: counts, duplicate keys, files of rows set aside."""

    total: Total
    duplicates: dict[bytes, Duplicate]
    set_aside: list[Path]


def read_parts(plan: Plan, options: Sequence[str], output: Path, work: Path) -> Reading:
    """Writes the examples of all parts to `output/Split-*/`, all else to files in `work`."""
    splits = SPLITS if plan.splits.by == "key" else SPLITS[:2]
    with make_pipeline(options) as pipeline:
        # Each part is an element of its own, under its own key, so that a runner can spread them
        # and their order stays.
        outcomes = (
            pipeline
            | "Parts" >> beam.Create([(index, None) for index in range(len(plan.parts))])
            | "Spread" >> ReshufflePerKey()
            | "Read" >> beam.FlatMap(_read, plan).with_outputs(*splits, SET_ASIDE, KEYS, TALLY)
        )
        for split in splits:
            sink = beam.io.iobase.Write(TFRecordBatchSink(split_prefix(output, split)))
            _ = outcomes[split] | f"Write[{split}]" >> sink
        for name in (SET_ASIDE, TALLY):
            _ = outcomes[name] | f"Write[{name}]" >> beam.io.WriteToText(str(work / name))
        (
            outcomes[KEYS]
            | "Group keys" >> beam.GroupByKey()
            | "Find duplicates"
            >> beam.FlatMap(lambda item: map(_to_line, find_duplicates(item[1])))
            | "Write duplicates" >> beam.io.WriteToText(str(work / _DUPLICATES))
        )
    tallies = [Tally.model_validate_json(line) for line in _lines(work, TALLY)]
    duplicates = dict(_from_line(line) for line in _lines(work, _DUPLICATES))
    return Reading(Total(tallies), duplicates, sorted(work.glob(f"{SET_ASIDE}-*")))


def _read(item: tuple[int, None], plan: Plan) -> Iterator[Any]:
    for name, value in read_part(plan, item[0]):
        yield TaggedOutput(name, value)


def _to_line(found: tuple[bytes, Duplicate]) -> str:
    return json.dumps([found[0].hex(), *found[1]])


def _from_line(line: str) -> tuple[bytes, Duplicate]:
    key, *duplicate = json.loads(line)
    return bytes.fromhex(key), Duplicate(*duplicate)


def _lines(work: Path, name: str) -> Iterator[str]:
    for file in sorted(work.glob(f"{name}-*")):
        with file.open(encoding="utf-8") as lines:
            yield from lines
