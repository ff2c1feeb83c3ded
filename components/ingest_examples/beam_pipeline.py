"""The Beam pipeline that reads the parts of a span in parallel and writes their rows."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.util import ReshufflePerKey

from components.ingest_examples.duplicates import Duplicate, find_duplicates, sort_keys
from components.ingest_examples.part_reader import KEYS, SET_ASIDE, TALLY, Plan, read_part
from components.ingest_examples.tallies import Tally, Total
from perennial.data.beam import make_pipeline
from perennial.data.examples import split_prefix
from perennial.data.file_sink import FileSink, example_sink, line_sink, tell_files
from perennial.data.row_keys import ROW_KEY, RowKeys
from perennial.data.worker_files import Handover, PipelineFiles, Workers
from schemas.project import SPLITS

_DUPLICATES, _SORTED = "duplicates", "sorted"
_STEP = "ingest_examples"
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


def read_parts(plan: Plan, workers: Workers, output: Path, work: Path) -> Reading:
    """Writes the examples of all parts to `output/Split-*/`, all else to files in `work`.

    Where the workers are elsewhere, the examples stay in the root, and records of them are written.
    """
    splits = SPLITS if plan.splits.by == "key" else SPLITS[:2]
    with PipelineFiles(workers, _STEP, work) as files:
        _run(plan, workers, splits, files.handover)
        files.receive()
        for split in splits:
            files.place(split, Path(split_prefix(output, split)))
        tallies = [Tally.model_validate_json(line) for line in _lines(files.paths(TALLY))]
        duplicates = dict(_from_line(line) for line in _lines(files.paths(_DUPLICATES)))
        set_aside, keys = files.paths(SET_ASIDE), files.paths(_SORTED)
    return Reading(Total(tallies), duplicates, set_aside, keys)


def _run(plan: Plan, workers: Workers, splits: tuple[str, ...], handover: Handover) -> None:
    with make_pipeline(workers.options) as pipeline:
        # Each part is an element of its own, under its own key, so that a runner can spread them
        # and their order stays.
        outcomes = (
            pipeline
            | "Parts" >> beam.Create([(index, None) for index in range(len(plan.parts))])
            | "Spread" >> ReshufflePerKey()
            | "Read" >> beam.FlatMap(_read, plan).with_outputs(*splits, SET_ASIDE, KEYS, TALLY)
        )
        grouped = outcomes[KEYS] | "Group keys" >> beam.GroupByKey()
        duplicates = grouped | "Find duplicates" >> beam.FlatMap(_duplicate_lines)
        written = [
            *(
                outcomes[split] | f"Write[{split}]" >> example_sink(handover, split)
                for split in splits
            ),
            *(
                outcomes[name] | f"Write[{name}]" >> line_sink(handover, name)
                for name in (SET_ASIDE, TALLY)
            ),
            grouped | "Write keys" >> FileSink(handover, _SORTED, _sorted_keys),
            duplicates | "Write duplicates" >> line_sink(handover, _DUPLICATES),
        ]
        tell_files(handover, written)


def _read(item: tuple[int, None], plan: Plan) -> Iterator[Any]:
    for name, value in read_part(plan, item[0]):
        yield TaggedOutput(name, value)


def _sorted_keys(item: tuple[int, list[bytes]]) -> bytes:
    """Gives a shard of keys in their order, behind its number and its size."""
    data = sort_keys(item[1]).tobytes()
    return _HEAD.pack(item[0], len(data)) + data


def _duplicate_lines(item: tuple[int, list[bytes]]) -> Iterator[str]:
    for key, duplicate in find_duplicates(item[1]):
        yield json.dumps([key.hex(), *duplicate])


def _from_line(line: str) -> tuple[bytes, Duplicate]:
    key, *duplicate = json.loads(line)
    return bytes.fromhex(key), Duplicate(*duplicate)


def _lines(files: list[Path]) -> Iterator[str]:
    for file in files:
        with file.open(encoding="utf-8") as lines:
            yield from lines
