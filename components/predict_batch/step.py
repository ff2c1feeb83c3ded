"""Scores a file with the champion, batch by batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.predict_batch.arrays import column_of
from components.predict_batch.rows import (
    ReadRows,
    RowReader,
    TextColumnError,
    open_file,
    read_fields,
)
from components.predict_batch.set_aside import SetAsideRows
from perennial.errors import DataError, InputError, PerennialError, ServingError
from perennial.export.contract import read_contract
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.readers.columns import Kind, columns_of
from perennial.readers.rows import Reason
from perennial.registry.versions import Registry
from perennial.tasks import Part
from schemas.records import ModelContract
from serving.domains import DomainCheck
from serving.outputs import prediction_outputs, task_outputs
from serving.runtime import (
    LoadedModel,
    Predictions,
    finite_rows,
    load_model,
    make_features,
)

if TYPE_CHECKING:
    import pyarrow as pa

MODEL_VERSION = "model_version"
BATCH_ROWS = 1024
_ROWS_IN_GROUP = 64 * BATCH_ROWS  # of what is written: few large row groups are read faster
_COLUMNS: dict[Part, str] = {
    "class": "predicted_class",
    "probabilities": "probabilities",
    "value": "predicted_value",
}


@dataclass(frozen=True)
class BatchResult:
    """Outcome of scoring a file.

    Attributes:
        rows: How many predictions were written.
        version: The version that made them.
        path: Their file.
        set_aside: How many rows could not be scored.
        first: The first of these, with its place and reason.
        set_aside_path: The file that holds them; it is there if there is one.
        outside: Feature -> how many rows had a value outside its domain in the schema.
    """

    rows: int
    version: str
    path: Path
    set_aside: int
    first: str
    set_aside_path: Path
    outside: dict[str, int]


def predict_batch(
    project: Project, data: Path, output: Path, delimiter: str | None = None
) -> BatchResult:
    """Writes a Parquet file with a row for each input row that the model can score.

    It holds the row's columns and the prediction. The other rows go to a file beside it, with the
    reason for each. Columns of numbers, by the model and the schema, are numbers, unless one of
    their values is none.

    Columns added: `predicted_class` int64 and `probabilities` list of float32, or `predicted_value`
    float32 of a regression, behind `<task>_` where there are several tasks; and `model_version`
    text. A feature with a default may be missing from the file or from a row. The rows keep their
    order, and a set number of batches is in memory at a time. The file appears whole or not at all.

    Args:
        project: The project whose champion predicts.
        data: The file.
        output: The file to write.
        delimiter: The character between the cells of CSV; None: that of `data.delimiter`.

    Raises:
        ServingError: Nothing was deployed yet.
        DataError: The file cannot be read, or has no row that can be scored.
    """
    champion = Ledger(project.ledger_url).champion()
    if champion is None:
        where = f"project {project.settings.name}"
        raise ServingError(
            where, "must have a champion", "none", "`perennial run` trains the first one."
        )
    registry = Registry(project)
    folder = registry.fetch(registry.version(champion.version))
    contract = read_contract(folder)
    settings = project.settings
    largest = settings.data.max_value_mb
    part = open_file(data, contract.missing, delimiter or settings.data.delimiter)
    needed = [feature.name for feature in contract.features if feature.default is None]
    kinds = _scalar_kinds(project, contract)
    batching = settings.serving.batching
    model = load_model(settings.name, champion.version, folder, champion.digest, batching=batching)
    set_aside_path = output.with_suffix(".set_aside.jsonl")
    with _temporary_beside(output) as temporary:
        file, refused = temporary / "predictions.parquet", temporary / "set_aside.jsonl"
        while True:
            schema = make_schema(read_fields(part, needed, largest, kinds), contract)
            set_aside = SetAsideRows(data.name, refused)
            domains = DomainCheck(settings.serving.outside_domain)
            passed_on = _passed_on(schema, contract)
            reader = RowReader(part, model.features, passed_on, largest, set_aside, domains)
            try:
                rows = _write(reader.read(), model, schema, file, set_aside)
                break
            except TextColumnError as error:  # not a column of numbers in this file
                del kinds[error.name]
            finally:
                set_aside.close()
        set_aside_path.unlink(missing_ok=True)
        if set_aside.count:
            os.replace(refused, set_aside_path)
        if set_aside.count and not rows:
            received = f"{set_aside.count} that cannot, the first {set_aside.first}"
            remedy = f"Correct them: {set_aside_path} has the reason for each."
            raise DataError(str(data), "must have a row that can be scored", received, remedy)
        os.replace(file, output)
    return BatchResult(
        rows=rows,
        version=champion.version,
        path=output,
        set_aside=set_aside.count,
        first=set_aside.first,
        set_aside_path=set_aside_path,
        outside=dict(domains.counts),
    )


def _scalar_kinds(project: Project, contract: ModelContract) -> dict[str, Kind]:
    """Gives the kind of each column of single values, by the model and by the schema."""
    known = columns_of(project.schema) if project.schema_path.exists() else {}
    known |= {feature.name: column_of(feature) for feature in make_features(contract)}
    return {name: column.kind for name, column in known.items() if not column.many}


@contextmanager
def _temporary_beside(output: Path) -> Iterator[Path]:
    """Makes a folder beside the output for as long as the block lasts.

    Raises:
        PerennialError: Nothing can be written there.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=output.parent, prefix=".predictions.")
    except OSError as error:
        where, remedy = f"folder {output.parent}", "Name another file with --output."
        received = error.strerror or error
        raise PerennialError(where, "must be writable", received, remedy) from error
    with folder as name:
        yield Path(name)


def _passed_on(schema: pa.Schema, contract: ModelContract) -> pa.Schema:
    """Gives the fields of the output that are the input's own."""
    import pyarrow as pa

    added = {*output_columns(contract), MODEL_VERSION}
    return pa.schema([field for field in schema if field.name not in added])


def _write(
    blocks: Iterator[ReadRows],
    model: LoadedModel,
    schema: pa.Schema,
    path: Path,
    set_aside: SetAsideRows,
) -> int:
    """Writes the columns that are passed on and the predictions of every row.

    Gives the number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema) as writer:
        for block in blocks:
            for first in range(0, len(block), BATCH_ROWS):
                rows = block.slice(first, BATCH_ROWS)
                for batch in _score(rows, model, schema, set_aside):
                    waiting.append(batch)
                    count += batch.num_rows
            if sum(batch.num_rows for batch in waiting) >= _ROWS_IN_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    return count


def _score(
    rows: ReadRows, model: LoadedModel, schema: pa.Schema, set_aside: SetAsideRows
) -> Iterator[pa.RecordBatch]:
    """Predicts rows; gives them as they are written.

    A row that the model refuses, or has no finite answer to, is set aside: it is found by dividing
    the others from it.
    """
    names = [output.name for output in prediction_outputs(model.contract)]
    try:
        predictions = model.compute(rows.arrays, names)
    except InputError as error:
        if len(rows) == 1:
            expected = "the row must hold values that the model can compute"
            _refuse(rows, 0, Reason(expected, error.received), set_aside)
            return
        middle = len(rows) // 2
        for some in (rows.slice(0, middle), rows.slice(middle, len(rows))):
            yield from _score(some, model, schema, set_aside)
        return
    finite = np.all([finite_rows(values) for values in predictions.values()], axis=0)
    for row in np.flatnonzero(~finite).tolist():
        expected = "the row must hold values that the model has a finite answer to"
        _refuse(rows, row, Reason(expected, "values that give NaN or infinity"), set_aside)
    kept = np.flatnonzero(finite)
    if len(kept) < len(rows):
        rows = rows.take(kept)
        predictions = {name: values[kept] for name, values in predictions.items()}
    if len(rows):
        yield _to_batch(rows, predictions, model, schema)


def _refuse(rows: ReadRows, row: int, reason: Reason, set_aside: SetAsideRows) -> None:
    set_aside.add(rows.place(row), reason, rows.passed_on.slice(row, 1).to_pylist()[0])


def _to_batch(
    rows: ReadRows, predictions: Predictions, model: LoadedModel, schema: pa.Schema
) -> pa.RecordBatch:
    import pyarrow as pa

    columns = _to_columns(predictions, output_columns(model.contract), schema)
    columns[MODEL_VERSION] = pa.repeat(pa.scalar(model.version, pa.string()), len(rows))
    columns |= dict(zip(rows.passed_on.schema.names, rows.passed_on.columns, strict=True))
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def output_columns(contract: ModelContract) -> dict[str, str]:
    """Gives for each column the model's output that it holds, such as `predicted_class`."""
    several = len(contract.tasks) > 1
    return {
        f"{task.name + '_' if several else ''}{_COLUMNS[part]}": output.name
        for task in contract.tasks
        for part, output in task_outputs(contract, task).items()
    }


def _to_columns(
    predictions: Predictions, outputs: dict[str, str], schema: pa.Schema
) -> dict[str, pa.Array]:
    """Makes columns of the model's predictions: a list for each row of a matrix."""
    import pyarrow as pa

    columns = {}
    for column, name in outputs.items():
        values = predictions[name]
        if values.ndim > 1:
            offsets = pa.array(range(0, values.size + 1, values.shape[1]), pa.int32())
            columns[column] = pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))
        else:
            columns[column] = pa.array(values, schema.field(column).type)
    return columns


def make_schema(fields: Sequence[Any], contract: ModelContract) -> Any:
    """Makes the output's Arrow schema: the input's columns, then the predictions.

    A column of the input that has the name of an added one is left out.
    """
    import pyarrow as pa

    kinds = {"int64": pa.int64(), "float32": pa.float32()}
    forms = {output.name: output for output in prediction_outputs(contract)}
    added = []
    for column, name in output_columns(contract).items():
        kind = kinds[forms[name].dtype]
        added.append(pa.field(column, kind if forms[name].width is None else pa.list_(kind)))
    added.append(pa.field(MODEL_VERSION, pa.string()))
    names = {field.name for field in added}
    return pa.schema([*(field for field in fields if field.name not in names), *added])
