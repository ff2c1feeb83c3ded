"""The same rows by ingestion, batch prediction and the model server.

Run in a process that may use TensorFlow.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.components.ingest_examples.jobs import make_project, write_tfrecord

SCHEMA = """
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "label" type: INT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "fare" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "seats" type: INT presence { min_fraction: 1 } shape {} }
feature { name: "zone" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "pair" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 2 } } }
feature { name: "grid" type: INT presence { min_fraction: 1 } shape { dim { size: 2 } dim { size: 2 } } }
feature { name: "words" type: BYTES presence { min_fraction: 1 } shape { dim { size: 2 } } }
feature { name: "tips" type: FLOAT value_count { min: 1 max: 1 } }
default_environment: "TRAINING"
default_environment: "SERVING"
tensor_representation_group {
  key: ""
  value {
    tensor_representation {
      key: "tips"
      value { dense_tensor { column_name: "tips" shape {} default_value { float_value: 1.5 } } }
    }
  }
}
"""


def check_three_ways(folder: Path) -> None:
    """Rows of any values give the same arrays, whichever way and in whatever format they come."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    whole = st.integers(-(2**63), 2**63 - 1)
    text = st.sampled_from(
        ["10115", "true", "null", "[1]", "007", "1.50", "a\nb", 'a "b", c', "\u00e9", " x "]
    )
    text |= st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=8
    )
    row = st.fixed_dictionaries(
        {
            "fare": numbers | st.integers(-(2**60), 2**60),
            "seats": whole,
            "zone": text,
            "pair": st.lists(numbers, min_size=2, max_size=2),
            "grid": st.lists(st.lists(whole, min_size=2, max_size=2), min_size=2, max_size=2),
            "words": st.lists(text, min_size=2, max_size=2),
        },
        optional={"tips": numbers},
    )
    project = make_project(folder / "rides", SCHEMA)

    @settings(
        max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.lists(row, min_size=1, max_size=5))
    def check(rows: list[dict[str, Any]]) -> None:
        expected = _by_server(project, rows)
        landed = [{"id": f"r{number}", "label": 1, **row} for number, row in enumerate(rows)]
        for path in _write_all(folder, landed):
            for way, arrays in (
                ("batch", _by_batch(project, path)),
                ("ingestion", _by_ingestion(project, path)),
            ):
                assert arrays.keys() == expected.keys()
                for name, array in expected.items():
                    where = f"{name} of {path.name} by {way}"
                    assert arrays[name].dtype == array.dtype, where
                    np.testing.assert_array_equal(arrays[name], array, where)

    check()


def _write_all(folder: Path, rows: list[dict[str, Any]]) -> list[Path]:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    cells = text.getvalue().encode()
    files = {
        "rows.jsonl": lines,
        "rows.jsonl.gz": gzip.compress(lines),
        "rows.csv": cells,
        "rows.csv.gz": gzip.compress(cells),
        "rows.csv.zst": zstandard.ZstdCompressor().compress(cells),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    # Parquet has one type for a column.
    typed = [{**row, "fare": float(row["fare"])} for row in rows]
    arrays = [pa.array([row.get(name) for row in typed]) for name in names]
    pq.write_table(pa.table(arrays, names), folder / "rows.parquet")
    flat = [{**row, "grid": [value for line in row["grid"] for value in line]} for row in typed]
    write_tfrecord(folder / "rows.tfrecord", flat)
    return [folder / name for name in (*files, "rows.parquet", "rows.tfrecord")]


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _features(project: Any) -> tuple[Any, ...]:
    from perennial.export.contract import served_features
    from schemas.records import ModelContract
    from serving.runtime import make_features

    return make_features(ModelContract(features=served_features(project.schema), tasks=[]))


def _by_server(project: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from serving.inputs import from_v1, parse_json

    payload = parse_json(json.dumps({"instances": rows}).encode())
    return from_v1(payload, _features(project))


def _by_batch(project: Any, path: Path) -> dict[str, Any]:
    import pyarrow as pa

    from components.predict_batch.rows import RowReader, open_file
    from components.predict_batch.set_aside import SetAsideRows
    from serving.domains import DomainCheck

    features, set_aside = _features(project), SetAsideRows(path.name, path.with_suffix(".aside"))
    reader = RowReader(open_file(path), features, pa.schema([]), 16, set_aside, DomainCheck())
    blocks = list(reader.read())
    assert not set_aside.count, set_aside.first
    return {
        name: np.concatenate([block.arrays[name] for block in blocks]) for name in blocks[0].arrays
    }


def _by_ingestion(project: Any, path: Path) -> dict[str, Any]:
    """Parses the examples as a model's training does, in the order of their keys."""
    import tensorflow as tf

    from components.ingest_examples.part_reader import SET_ASIDE, Plan, read_part
    from components.ingest_examples.row_rules import RowRules, label_domain
    from perennial.export.contract import parsing_specs
    from perennial.readers.columns import columns_of
    from perennial.readers.read import format_of
    from perennial.readers.rows import Part
    from perennial.schema.environments import serving_features
    from schemas.project import SPLITS

    part = Part(str(path), path.name, format_of(str(path), None))
    rules = RowRules("id", "label", label_domain(project.schema, "label"))
    plan = Plan("s", [part], rules, project.settings.data.splits, 16, columns_of(project.schema))
    outcomes = list(read_part(plan, 0))
    assert not [value for name, value in outcomes if name == SET_ASIDE]
    examples = [one for name, value in outcomes if name in SPLITS for one in value]
    examples.sort(
        key=lambda one: tf.train.Example.FromString(one).features.feature["id"].bytes_list.value[0]
    )
    specs = parsing_specs(project.schema, serving_features(project.schema))
    return {name: tensor.numpy() for name, tensor in tf.io.parse_example(examples, specs).items()}
