"""Scores a file with the champion, batch by batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.predict_batch.rows import ReadRows, RowReader, open_file, read_fields
from perennial.errors import DataError, InputError, ServingError
from perennial.export.contract import read_contract
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.registry.versions import Registry
from perennial.tasks import Part
from schemas.records import ModelContract
from serving.outputs import prediction_outputs, task_outputs
from serving.runtime import LoadedModel, Predictions, load_model

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
    """The number of predictions that were written, their version, and their file."""

    rows: int
    version: str
    path: Path


def predict_batch(project: Project, data: Path, output: Path) -> BatchResult:
    """Writes a Parquet file with a row for each input row: its columns and the prediction.

    Columns added: `predicted_class` int64 and `probabilities` list of float32, or `predicted_value`
    float32 of a regression, behind `<task>_` where there are several tasks; and `model_version`
    text. A feature with a default may be missing from the file or from a row. The rows keep their
    order, and a set number of batches is in memory at a time. The file appears whole or not at all.

    Raises:
        ServingError: Nothing was deployed yet.
        DataError: The file cannot be read, or a row does not fit the model.
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
    part, largest = open_file(data), project.settings.data.max_value_mb
    needed = [feature.name for feature in contract.features if feature.default is None]
    schema = make_schema(read_fields(part, needed, largest), contract)
    model = load_model(project.settings.name, champion.version, folder, champion.digest)
    output.parent.mkdir(parents=True, exist_ok=True)
    reader = RowReader(part, model.features, _passed_on(schema, contract), largest)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".predictions.") as temporary:
        file = Path(temporary) / "predictions.parquet"
        rows = _write(reader.read(), model, schema, file)
        os.replace(file, output)
    return BatchResult(rows, champion.version, output)


def _passed_on(schema: pa.Schema, contract: ModelContract) -> pa.Schema:
    """Gives the fields of the output that are the input's own."""
    import pyarrow as pa

    added = {*output_columns(contract), MODEL_VERSION}
    return pa.schema([field for field in schema if field.name not in added])


def _write(blocks: Iterator[ReadRows], model: LoadedModel, schema: pa.Schema, path: Path) -> int:
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
                try:
                    waiting.append(_score(block, first, model, schema))
                except InputError as error:  # it counts the instances of this batch
                    where = f"{block.place(first)} and the rows after it: {error.where}"
                    raise DataError(where, error.expected, error.received, error.remedy) from error
                count += waiting[-1].num_rows
            if sum(batch.num_rows for batch in waiting) >= _ROWS_IN_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    return count


def _score(block: ReadRows, first: int, model: LoadedModel, schema: pa.Schema) -> pa.RecordBatch:
    """Predicts the rows of one batch; gives them as they are written."""
    import pyarrow as pa

    passed_on = block.passed_on.slice(first, BATCH_ROWS)
    arrays = {name: array[first : first + BATCH_ROWS] for name, array in block.arrays.items()}
    predictions = model.predict(
        arrays, [output.name for output in prediction_outputs(model.contract)]
    )
    columns = _to_columns(predictions, output_columns(model.contract), schema)
    rows = len(columns[next(iter(columns))])
    columns[MODEL_VERSION] = pa.repeat(pa.scalar(model.version, pa.string()), rows)
    columns |= dict(zip(passed_on.schema.names, passed_on.columns, strict=True))
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
