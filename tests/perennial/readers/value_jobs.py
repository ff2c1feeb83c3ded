"""The values of the list by every source: what runs in a process that may use TensorFlow."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tests.components.ingest_examples.jobs import make_project
from tests.perennial.readers.value_cases import CASES, MISSING, REFUSED, WORDS, Case

_TYPES = {"number": "FLOAT", "whole number": "INT", "text": "BYTES"}
_DTYPES = {"number": "float32", "whole number": "int64", "text": "string"}
_SCHEMA = """
feature {{ name: "id" type: BYTES }}
feature {{ name: "label" type: INT }}
feature {{ name: "x" type: {} value_count {{ min: 1 max: 1 }} }}
"""


def read_all(folder: Path) -> dict[tuple[int, str], Any]:
    """Number of a case and source -> what became of the value.

    Batch prediction of a file is the source `batch csv`, and so on; `csv ;` is CSV with semicolons.
    """
    outcomes: dict[tuple[int, str], Any] = {}
    for kind, type_name in _TYPES.items():
        project = make_project(folder / type_name, _SCHEMA.format(type_name))
        for number, case in enumerate(CASES):
            if case.kind != kind:
                continue
            for source in case.sources:
                if source == "request":
                    outcomes[number, source] = _by_request(case)
                    continue
                for name in ("csv", "csv ;") if source == "csv" else (source,):
                    part = _write(folder, number, case, name)
                    outcomes[number, name] = _by_ingestion(project, part)
                    if source != "table":
                        outcomes[number, f"batch {name}"] = _by_batch(part, case)
    return outcomes


def _write(folder: Path, number: int, case: Case, source: str) -> Any:
    from perennial.readers.rows import Part
    from schemas.project import TableSettings

    source, _, delimiter = source.partition(" ")
    path = folder / f"{number}{delimiter}.{source}"
    row = {"id": "a", "label": 1, "x": case.value}
    if source == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream, delimiter=delimiter or ",")
            writer.writerows([list(row), list(row.values())])
    elif source == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    elif source == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        kind = pa.uint64() if isinstance(case.value, int) and case.value >= 2**63 else None
        columns = [pa.array(["a"]), pa.array([1]), pa.array([case.value], kind)]
        pq.write_table(pa.table(columns, list(row)), path)
    elif source == "tfrecord":
        from tests.components.ingest_examples.jobs import write_tfrecord

        write_tfrecord(path, [{name: _in_example(v) for name, v in row.items() if v is not None}])
    else:
        import sqlalchemy as sa

        url = f"sqlite:///{path}"
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (day, id, label, x)")
            values = ("1", *row.values())
            connection.exec_driver_sql("INSERT INTO t VALUES (?, ?, ?, ?)", values)
        engine.dispose()
        settings = TableSettings(url=url, table="t", span="day")
        return Part("", "t", "table", table=settings, span="1", without=("day",), missing=WORDS)
    form: Any = source
    return Part(str(path), path.name, form, missing=WORDS, delimiter=delimiter or ",")


def _in_example(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _by_ingestion(project: Any, part: Any) -> Any:
    import tensorflow as tf

    from components.ingest_examples.part_reader import SET_ASIDE, Plan, read_part
    from components.ingest_examples.row_rules import RowRules, label_domain
    from perennial.readers.columns import columns_of
    from schemas.project import SPLITS

    rules = RowRules("id", "label", label_domain(project.schema, "label"))
    splits = project.settings.data.splits
    plan = Plan("s", [part], rules, splits, 1, columns_of(project.schema))
    outcomes = list(read_part(plan, 0))
    if [value for name, value in outcomes if name == SET_ASIDE]:
        return REFUSED
    (example,) = [one for name, value in outcomes if name in SPLITS for one in value]
    feature = tf.train.Example.FromString(example).features.feature["x"]
    kind = feature.WhichOneof("kind")
    return getattr(feature, kind).value[0] if kind else MISSING


def _by_batch(part: Any, case: Case) -> Any:
    import pyarrow as pa

    from components.predict_batch.rows import RowReader
    from components.predict_batch.set_aside import SetAsideRows
    from serving.domains import DomainCheck

    set_aside = SetAsideRows("s", Path(f"{part.uri}.aside"))
    reader = RowReader(part, [_feature(case)], pa.schema([]), 1, set_aside, DomainCheck())
    blocks = list(reader.read())
    set_aside.close()
    if set_aside.count:
        return MISSING if "no value" in set_aside.first else REFUSED
    return blocks[0].arrays["x"][0]


def _by_request(case: Case) -> Any:
    from perennial.errors import InputError
    from serving.inputs import from_v1, parse_json

    body = json.dumps({"instances": [{"x": case.value}]}).encode()
    try:
        return from_v1(parse_json(body), [_feature(case)], WORDS)["x"][0]
    except InputError as error:
        missing = case.value is None or error.expected.startswith("must have the feature")
        return MISSING if missing else REFUSED


def _feature(case: Case) -> Any:
    from serving.features import Feature

    return Feature("x", _DTYPES[case.kind], ())
