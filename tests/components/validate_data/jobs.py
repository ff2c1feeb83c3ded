"""What runs in a warm process for the tests of `validate_data`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perennial.project import Project
from perennial.storage.atomic import link_tree
from schemas.records import Check, Validation
from tests.chain import Chain, land
from tests.components.validate_data.spans import make_record, make_rows


@dataclass(frozen=True)
class Day:
    """One span of a case: its rows (`make_rows`), and what its record says otherwise."""

    name: str
    rows: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    new: bool = True
    released: bool = False


@dataclass(frozen=True)
class Found:
    """What validating a case left."""

    folder: Path
    validation: Validation
    examples: dict[str, int]


def validate_days(
    project: Project,
    days: Sequence[Day],
    folder: Path,
    made: Path,
    known_rows: Mapping[str, str] | None = None,
) -> Found:
    """Validates spans that are made from rows.

    The examples and the statistics are real ones, kept in `made`.
    """
    from components.validate_data.step import validate_data

    checked = [
        make_checked(project, day, number, folder, made) for number, day in enumerate(days, start=1)
    ]
    statistics = [folder / "statistics" / day.name for day in days]
    outputs = folder / "window", folder / "measured", folder / "validation"
    new, released = (
        [day.name for day in days if getattr(day, what)] for what in ("new", "released")
    )
    spans = new, released, checked, statistics
    validation = validate_data(project, *spans, *outputs, known_rows)
    return Found(folder, validation, measured_examples(folder / "measured"))


def validate_again(
    project: Project, days: Sequence[Day], folder: Path, made: Path
) -> tuple[Found, Found]:
    """The same twice, into the same folders, which hold something of a killed attempt the second time."""
    first = validate_days(project, days, folder, made)
    (folder / "window" / "left" / "Split-train").mkdir(parents=True)
    return first, validate_days(project, days, folder, made)


def make_checked(project: Project, day: Day, number: int, folder: Path, made: Path) -> Path:
    """Writes what `check_examples` and `compute_statistics` leave of a span, unless it is there."""
    checked = folder / "checked" / day.name
    if checked.exists():
        return checked
    source, counts = make_measured(project, number, day.rows, made)
    link_tree(source / "statistics", folder / "statistics" / day.name)
    shutil.copytree(source / "examples", checked)
    record = make_record(project, day.name, **{"rows": counts, **day.record})
    (checked / "data_docs").mkdir(parents=True)
    (checked / "data_docs" / "index.html").write_text(day.name)
    (checked / "set_aside.jsonl").write_text(json.dumps({"span": day.name}) + "\n")
    record.write(checked)
    return checked


def make_measured(
    project: Project, number: int, rows: Mapping[str, Any], made: Path
) -> tuple[Path, dict[str, int]]:
    """Examples and statistics of such rows, made once for all cases, and the rows of each split."""
    from components.compute_statistics.step import compute_statistics
    from perennial.data.worker_files import Workers

    made /= f"{number} {json.dumps(rows)}"
    if not (made / "counts.json").exists():
        examples = made / "examples"
        examples.mkdir(parents=True)
        made_rows = make_rows(number, **rows)
        counts = write_examples(made_rows, examples) if made_rows else {}
        write_keys(made_rows, examples)
        label = [project.settings.label]
        compute_statistics(
            examples, Workers.of(project), made / "statistics", project.schema, label
        )
        (made / "counts.json").write_text(json.dumps(counts))
    return made, json.loads((made / "counts.json").read_text())


def write_examples(rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, int]:
    """Writes rows as examples, three in five to the train split; gives the rows of each split."""
    import tensorflow as tf

    from perennial.data.examples import split_prefix, to_example
    from schemas.project import SPLITS

    parts = {
        split: [row for n, row in enumerate(rows) if (0, 0, 0, 1, 2)[n % 5] == i]
        for i, split in enumerate(SPLITS)
    }
    for split, some in parts.items():
        path = Path(f"{split_prefix(folder, split)}-00000-of-00001.gz")
        path.parent.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for row in some:
                writer.write(to_example(row).SerializeToString())
    return {split: len(some) for split, some in parts.items()}


def write_keys(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes the keys of examples as ingestion does."""
    import numpy as np

    from perennial.data.examples import to_example
    from perennial.data.row_keys import ROW_KEY, digest, digest_keys, write_row_keys

    keys = np.empty(len(rows), ROW_KEY)
    if rows:
        keys["high"], keys["low"] = digest_keys([row["id"].encode() for row in rows]).T
    for number, row in enumerate(rows):
        values = digest(to_example(row).SerializeToString(deterministic=True))
        keys["values"][number] = int.from_bytes(values[:8], "big")
    write_row_keys([np.sort(keys)], len(rows), folder)


def keys_of_window(window: Path) -> list[str]:
    """The keys of all examples of a window."""
    import tensorflow as tf

    from perennial.data.examples import read_records, split_files
    from perennial.data.shown_examples import value_name

    records = read_records(split_files(window))
    return [value_name(tf.train.Example.FromString(record), "id") for record in records]


def measured_examples(folder: Path) -> dict[str, int]:
    """Number of examples by TFDV's statistics and by the distributions.

    Empty where nothing was measured.
    """
    from perennial.data.distributions import read_distributions
    from perennial.data.statistics import read_statistics

    if not any(folder.iterdir()):
        return {}
    examples = {name: part.examples for name, part in read_distributions(folder).items()}
    return {"table": read_statistics(folder).datasets[0].num_examples, **examples}


def check_log(project: Project, rows: Mapping[str, Any], folder: Path, made: Path) -> list[Check]:
    """The checks of skew between a span of such rows and the project's serving log."""
    from components.validate_data.skew import check_skew, read_served
    from perennial.data.distributions import read_distributions

    make_checked(project, Day("1", rows), 1, folder, made)
    return check_skew(
        project, read_distributions(folder / "statistics" / "1"), read_served(project)
    )


def validate_third_day(
    chain: Chain, project: Project, corruptions: list[str], folder: Path
) -> dict[str, Validation]:
    """Corruption -> the verdict on day 3 of the digits, landed so, after the chain's two days."""
    from components.check_examples.step import check_examples
    from components.compute_statistics.step import compute_statistics
    from components.ingest_examples.step import ingest_examples
    from components.validate_data.step import validate_data
    from perennial.data.worker_files import Workers

    found = {}
    for kind in corruptions:
        here, span = folder / kind, land(project, 3, kind)
        ingest_examples(project, span, here / "examples")
        check_examples(project, here / "examples", here / "checked")
        compute_statistics(
            here / "checked", Workers.of(project), here / "statistics", project.schema
        )
        days = [s.name for s in chain.selection.window]
        checked = [*map(chain.checked, days), here / "checked"]
        statistics = [*map(chain.statistics, days), here / "statistics"]
        outputs = here / "window", here / "measured", here / "validation"
        found[kind] = validate_data(project, [span.name], [], checked, statistics, *outputs)
    return found


def describe_anomalies(cases: list[tuple[str, list[Any]]]) -> list[list[str]]:
    """For each feature in text form, and the values of a column `x`: what breaks the schema."""
    import pandas as pd
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    from components.validate_data.schema_checks import check_schema
    from perennial.tfx_compat import import_tfdv

    described = []
    for feature, values in cases:
        schema = text_format.Parse(f"feature {{ {feature} }}", schema_pb2.Schema())
        statistics = import_tfdv().generate_statistics_from_dataframe(pd.DataFrame({"x": values}))
        checks = check_schema(statistics, schema, "quarantine")
        described.append([check.message for check in checks if check.verdict == "failed"])
    return described
