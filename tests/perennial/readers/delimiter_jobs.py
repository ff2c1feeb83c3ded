"""The files of the list read wherever CSV is read: what runs in a process that may use TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.components.ingest_examples.jobs import make_project
from tests.perennial.readers.delimited_cases import CASES, write

SCHEMA = """
default_environment: "TRAINING"
default_environment: "SERVING"
feature { name: "id" type: BYTES shape {} not_in_environment: "SERVING" }
feature { name: "fare" type: FLOAT shape {} }
feature { name: "note" type: BYTES shape {} }
feature { name: "label" type: INT shape {} not_in_environment: "SERVING" }
"""


def read_all(folder: Path) -> dict[tuple[str, str, str], list[tuple[Any, ...]]]:
    """Delimiter, file and way -> the fares and notes of its rows."""
    outcomes = {}
    for number, (delimiter, name) in enumerate(CASES):
        here = folder / str(number)
        project = make_project(here, SCHEMA, delimiter=delimiter, unlabelled=name, serving_log=name)
        (here / name).write_bytes(write(name, delimiter))
        for way, rows in _ways(project, here / name, delimiter):
            outcomes[delimiter, name, way] = rows
    return outcomes


def _ways(project: Any, path: Path, delimiter: str) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    part = _part(project, path)
    assert part.delimiter == delimiter
    yield "rows", _by_rows(part)
    yield "columns", _by_columns(part)
    yield "ingestion", _by_ingestion(project, part)
    yield "batch", _by_batch(path, delimiter)
    yield "unlabelled", _by_unlabelled(project)
    yield "serving log", _by_serving_log(project)


def _part(project: Any, path: Path) -> Any:
    from components.ingest_examples.sources import open_source
    from schemas.records import Span

    span = Span(name="s", version=1, uri=str(path), fingerprint="f")
    (part,) = open_source(project, span, []).parts
    return part


def _by_rows(part: Any) -> list[tuple[Any, ...]]:
    from perennial.readers.read import read_rows

    rows = list(read_rows(part, 1))
    assert not [row.reason for row in rows if row.reason]
    return [(float(row.values["fare"]), row.values["note"]) for row in rows]


def _by_columns(part: Any) -> list[tuple[Any, ...]]:
    """Reads the file in columns, which it must be possible to."""
    from perennial.readers.read import columns_of, read_blocks

    rows = []
    for block in read_blocks(part, 1):
        columns = columns_of(block, part)
        assert columns is not None
        rows += columns.batch.to_pylist()
    return [(float(row["fare"]), row["note"]) for row in rows]


def _by_ingestion(project: Any, part: Any) -> list[tuple[Any, ...]]:
    from components.ingest_examples.part_reader import SET_ASIDE, Plan, read_part
    from components.ingest_examples.row_rules import RowRules, label_domain
    from perennial.readers.columns import columns_of
    from schemas.project import SPLITS

    rules = RowRules("id", "label", label_domain(project.schema, "label"))
    plan = Plan("s", [part], rules, project.settings.data.splits, 1, columns_of(project.schema))
    outcomes = list(read_part(plan, 0))
    assert not [value for name, value in outcomes if name == SET_ASIDE]
    return _of_examples([one for name, value in outcomes if name in SPLITS for one in value])


def _by_batch(path: Path, delimiter: str) -> list[tuple[Any, ...]]:
    import pyarrow as pa

    from components.predict_batch.rows import RowReader, open_file, read_fields
    from components.predict_batch.set_aside import SetAsideRows
    from serving.domains import DomainCheck
    from serving.features import Feature

    features = [Feature("fare", "float32", ()), Feature("note", "string", ())]
    part, set_aside = open_file(path, (), delimiter), SetAsideRows("s", path.with_name("aside"))
    passed_on = pa.schema(read_fields(part, ["fare", "note"], 1))
    reader = RowReader(part, features, passed_on, 1, set_aside, DomainCheck())
    blocks = list(reader.read())
    assert not set_aside.count, set_aside.first
    written = [row for block in blocks for row in block.passed_on.to_pylist()]
    read = [
        (float(fare), note.decode())
        for block in blocks
        for fare, note in zip(block.arrays["fare"], block.arrays["note"], strict=True)
    ]
    assert read == [(float(row["fare"]), row["note"]) for row in written]
    return read


def _by_unlabelled(project: Any) -> list[tuple[Any, ...]]:
    """Reads the rows of the train split, as those of the others are never learnt from."""
    from components.pretrain_learner.unlabelled_rows import UnlabelledRows

    rows = UnlabelledRows(project)
    examples = [example for _, example in rows]
    assert all("key belongs" in note for note in rows.notes), rows.notes
    return _of_examples(examples)


def _by_serving_log(project: Any) -> list[tuple[Any, ...]]:
    from perennial.data.serving_log import find_log

    return [(row["fare"], row["note"].decode()) for row in find_log(project).rows()]


def _of_examples(examples: list[bytes]) -> list[tuple[Any, ...]]:
    import tensorflow as tf

    features = [tf.train.Example.FromString(one).features.feature for one in examples]
    return [
        (one["fare"].float_list.value[0], one["note"].bytes_list.value[0].decode())
        for one in features
    ]


def read_with_wrong_delimiter(folder: Path) -> dict[str, str]:
    """Way -> what is said of a file whose cells stand between semicolons, where commas are asked for."""
    from components.predict_batch.rows import open_file, read_fields
    from components.pretrain_learner.unlabelled_rows import UnlabelledRows
    from perennial.data.serving_log import find_log, reading_log
    from perennial.errors import NotComparedError, PerennialError

    names = {"unlabelled": "a.csv", "serving_log": "a.csv"}
    project = make_project(folder, SCHEMA, **names)
    (folder / "a.csv").write_bytes(write("quoted.csv", ";"))
    outcomes = {}
    try:
        _part(project, folder / "a.csv")
    except PerennialError as error:
        outcomes["ingestion"] = str(error)
    try:
        read_fields(open_file(folder / "a.csv"), ["fare"], 1)
    except PerennialError as error:
        outcomes["batch"] = str(error)
    unlabelled = UnlabelledRows(project)
    assert not list(unlabelled)
    (outcomes["unlabelled"],) = unlabelled.notes
    try:
        with reading_log():
            list(find_log(project).rows())
    except NotComparedError as error:
        outcomes["serving log"] = str(error)
    return outcomes
