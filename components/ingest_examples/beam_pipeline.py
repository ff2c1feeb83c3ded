"""The Beam pipeline that reads the parts of a span in parallel and writes their rows."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.io.filebasedsink import FileBasedSink
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.util import ReshufflePerKey

from components.ingest_examples.duplicates import Duplicate, find_duplicates, sort_keys
from components.ingest_examples.part_reader import KEYS, SET_ASIDE, TALLY, Plan, read_part
from components.ingest_examples.tallies import Tally, Total
from perennial.data.beam import make_pipeline
from perennial.data.example_sink import TFRecordBatchSink
from perennial.data.examples import split_prefix
from perennial.data.row_keys import ROW_KEY, RowKeys
from schemas.project import SPLITS

_DUPLICATES, _SORTED = "duplicates", "sorted"
_HEAD = struct.Struct("<QQ")  # the shard, and how many bytes its keys are


@dataclass(frozen=True)
class Reading:
    """Results of a reading beside its examples.

    Counts, duplicate keys, files of rows set aside, and files with the keys of the examples.
    """

    total: Total
    duplicates: dict[bytes, Duplicate]
    set_aside: list[Path]
    keys: list[Path]

    def sorted_keys(self) -> Iterator[RowKeys]:
        """Reads the keys of the examples in their order, a shard at a time."""
        places: list[tuple[int, Path, int, int]] = []
        for path in self.keys:
            with path.open("rb") as file:
                while head := file.read(_HEAD.size):
                    shard, size = _HEAD.unpack(head)
                    places.append((shard, path, file.tell(), size))
                    file.seek(size, os.SEEK_CUR)
        for _, path, start, size in sorted(places):
            yield np.fromfile(path, ROW_KEY, size // ROW_KEY.itemsize, offset=start)


class _KeysSink(FileBasedSink):
    """Writes each shard of keys behind its number and its size."""

    def __init__(self, prefix: str) -> None:
        plain = CompressionTypes.UNCOMPRESSED
        super().__init__(  # type: ignore[no-untyped-call]
            prefix, coder=BytesCoder(), compression_type=plain
        )

    def write_record(self, file_handle: Any, value: tuple[int, bytes]) -> None:
        """Writes a shard."""
        file_handle.write(_HEAD.pack(value[0], len(value[1])) + value[1])


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
        grouped = outcomes[KEYS] | "Group keys" >> beam.GroupByKey()
        _ = (
            grouped
            | "Sort keys" >> beam.Map(lambda item: (item[0], sort_keys(item[1]).tobytes()))
            | "Write keys" >> beam.io.iobase.Write(_KeysSink(str(work / _SORTED)))
        )
        (
            grouped
            | "Find duplicates"
            >> beam.FlatMap(lambda item: map(_to_line, find_duplicates(item[1])))
            | "Write duplicates" >> beam.io.WriteToText(str(work / _DUPLICATES))
        )
    tallies = [Tally.model_validate_json(line) for line in _lines(work, TALLY)]
    duplicates = dict(_from_line(line) for line in _lines(work, _DUPLICATES))
    set_aside, keys = (sorted(work.glob(f"{name}-*")) for name in (SET_ASIDE, _SORTED))
    return Reading(Total(tallies), duplicates, set_aside, keys)


def _read(item: tuple[int, None], plan: Plan) -> Iterator[Any]:
    for name, value in read_part(plan, item[0]):
        yield TaggedOutput(name, value)


def _to_line(keyed: tuple[bytes, Duplicate]) -> str:
    return json.dumps([keyed[0].hex(), *keyed[1]])


def _from_line(line: str) -> tuple[bytes, Duplicate]:
    key, *duplicate = json.loads(line)
    return bytes.fromhex(key), Duplicate(*duplicate)


def _lines(work: Path, name: str) -> Iterator[str]:
    for file in sorted(work.glob(f"{name}-*")):
        with file.open(encoding="utf-8") as lines:
            yield from lines
