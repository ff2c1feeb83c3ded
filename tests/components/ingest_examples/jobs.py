"""What runs in a warm process for the tests of `ingest_examples`, and the small project that they read with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from perennial.errors import PerennialError
from perennial.project import Project, load_project
from perennial.storage.fingerprints import fingerprint
from schemas.project import SPLITS
from schemas.records import Ingestion, SetAside, Span

SCHEMA = """
feature { name: "id" type: BYTES presence { min_fraction: 1.0 } shape {} }
feature { name: "fare" type: FLOAT presence { min_count: 1 } shape {} }
feature { name: "seats" type: INT shape {} }
feature { name: "note" type: BYTES shape {} string_domain { value: "any" } }
feature { name: "path" type: FLOAT value_count { min: 0 } }
feature { name: "label" type: INT shape {} int_domain { min: 0 max: 3 } }
"""
COLUMNS = ["id", "fare", "seats", "note", "label"]


@dataclass(frozen=True)
class Ingested:
    """What a span gave.

    Its record or the error, its examples per split in their order, and the rows set aside.
    """

    record: Ingestion | None
    error: str | None
    splits: dict[str, list[dict[str, Any]]]
    set_aside: list[SetAside]

    @property
    def examples(self) -> dict[str, dict[str, Any]]:
        """Key -> values; a key that stands in two examples is a mistake."""
        rows = [row for split in self.splits.values() for row in split]
        found = {row["id"].decode("utf-8", "backslashreplace"): row for row in rows}
        assert len(found) == len(rows)
        return found

    @property
    def problem(self) -> str:
        assert self.record is not None, self.error
        assert self.record.problem is not None
        return self.record.problem

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Place within the file -> reasons."""
        return {row.place.split(": ")[-1]: row.reasons for row in self.set_aside}


def make_project(
    folder: Path, schema: str | None = SCHEMA, label: str = "label", **data: Any
) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    spans = {} if "table" in data else {"spans": "data/{SPAN}.*"}
    settings = {"name": "rides", "label": label, "data": {"key": "id", **spans, **data}}
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    if schema is not None:
        (folder / "schema.pbtxt").write_text(schema)
    return load_project(folder)


def ingest(
    project: Project, uri: str, output: Path, infer: bool = False, span: Span | None = None
) -> Ingested:
    """Ingests what lies at a path or pattern below the project folder."""
    from components.ingest_examples.step import ingest_examples

    where = str(project.folder / uri)
    try:
        span = span or Span(name="s", version=1, uri=where, fingerprint=fingerprint(where))
        record = ingest_examples(project, span, output, infer)
    except PerennialError as error:
        return Ingested(None, f"{type(error).__name__}: {error}", {}, [])
    lines = (output / "set_aside.jsonl").read_text().splitlines()
    return Ingested(
        record, None, read_splits(output), [SetAside.model_validate_json(line) for line in lines]
    )


def ingest_files(project: Project, uris: Iterable[str], output: Path) -> dict[str, Ingested]:
    return {uri: ingest(project, uri, output / uri.replace("*", "_")) for uri in uris}


def check_no_row_is_lost(folder: Path) -> None:
    """Every row of rubbish is one example or one row set aside."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    text = st.text(st.sampled_from("aé\"',;\n\r[]{}\0 1.-e\u2028\U0001f600"), max_size=12)
    number = st.one_of(st.floats().map(str), st.integers(-5, 5).map(str), text)
    keys = st.one_of(st.sampled_from(["a", "b", "c"]), text)
    row = st.fixed_dictionaries(
        {"id": keys, "fare": number, "seats": number, "note": text, "label": number}
    )
    project = make_project(folder / "rides")
    path = folder / "a.csv"

    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.lists(row, min_size=1, max_size=12))
    def check(rows: list[dict[str, Any]]) -> None:
        path.write_bytes(as_csv(rows, quoted=True))
        lines = _first_lines(path, len(rows))
        places = {f"a.csv: line {line}": row for line, row in zip(lines, rows, strict=True)}
        examples, set_aside = _read_twice(project, path)
        assert len(examples) + len(set_aside) == len(rows)
        assert len({place.place for place in set_aside}) == len(set_aside)
        kept = [
            row
            for place, row in places.items()
            if place not in {aside.place for aside in set_aside}
        ]
        assert sorted(example["id"].decode() for example in examples) == sorted(
            row["id"] for row in kept
        )
        for aside in set_aside:
            assert aside.reasons and all("must" in reason for reason in aside.reasons)
            assert aside.values == {n: str(v) for n, v in places[aside.place].items() if v != ""}

    check()


def _first_lines(path: Path, rows: int) -> list[int]:
    """The line in which each record begins, by Python's own reading of the whole file."""
    import csv

    with path.open("rb") as lines:
        reader = csv.reader(line.decode() for line in lines)
        found = []
        for _ in range(rows + 1):
            found.append(reader.line_num + 1)
            next(reader)
    return found[1:]


def _read_twice(project: Project, path: Path) -> tuple[list[dict[str, Any]], list[SetAside]]:
    """Reads a file as the pipeline does, without Beam.

    Once to find duplicates, once to leave them out.
    """
    import tensorflow as tf

    from components.ingest_examples.duplicates import find_duplicates
    from components.ingest_examples.part_reader import KEYS, SET_ASIDE, Plan, read_part
    from components.ingest_examples.row_rules import RowRules, label_domain
    from perennial.readers.columns import columns_of
    from perennial.readers.rows import Part

    rules = RowRules("id", "label", label_domain(project.schema, "label"))
    splits, columns = project.settings.data.splits, columns_of(project.schema)
    plan = Plan("s", [Part(str(path), path.name, "csv")], rules, splits, 16, columns)
    batches: dict[int, list[Any]] = {}
    for name, value in read_part(plan, 0):
        if name == KEYS:
            batches.setdefault(value[0], []).append(value[1])
    found = dict(duplicate for shard in batches.values() for duplicate in find_duplicates(shard))
    outcomes = list(read_part(dataclasses.replace(plan, duplicates=found), 0))
    examples = [
        _values(tf.train.Example.FromString(one))
        for name, value in outcomes
        if name in SPLITS
        for one in value
    ]
    return examples, [
        SetAside.model_validate_json(value) for name, value in outcomes if name == SET_ASIDE
    ]


def write_tfrecord(path: Path, rows: list[dict[str, Any]]) -> None:
    import tensorflow as tf

    from perennial.data.examples import to_example

    kind = "GZIP" if path.suffix == ".gz" else ""
    with tf.io.TFRecordWriter(str(path), kind) as writer:
        for row in rows:
            writer.write(to_example(row).SerializeToString())


def read_splits(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Split -> examples as plain values, in the order in which they were written."""
    import tensorflow as tf

    from perennial.data.examples import read_records, split_files

    found: dict[str, list[dict[str, Any]]] = {}
    for split in SPLITS:
        records = read_records(split_files(folder, split)) if split_files(folder, split) else []
        found[split] = [_values(tf.train.Example.FromString(record)) for record in records]
    return found


def _values(example: Any) -> dict[str, Any]:
    found = {}
    for name, feature in sorted(example.features.feature.items()):
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        found[name] = values[0] if len(values) == 1 else values
    return found


def as_csv(
    rows: list[dict[str, Any]],
    columns: list[str] = COLUMNS,
    quoted: bool = False,
    delimiter: str = ",",
) -> bytes:
    import csv
    import io

    text = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(text, lineterminator="\n", quoting=quoting, delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows([row.get(name, "") for name in columns] for row in rows)
    return text.getvalue().encode()


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
