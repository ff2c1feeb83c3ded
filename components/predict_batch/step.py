"""Scores a file with the champion, batch by batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.predict_batch.arrays import to_arrays
from components.predict_batch.rows import Row, plain_fields, read_batches, read_columns, read_rows
from perennial.errors import DataError, PerennialError, ServingError
from perennial.export.contract import read_contract
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.registry.versions import Registry
from perennial.tasks import Part
from schemas.records import ModelContract
from serving.inputs import Arrays, from_v1
from serving.outputs import prediction_outputs, task_outputs
from serving.runtime import LoadedModel, Predictions, load_model

if TYPE_CHECKING:
    import pyarrow as pa

MODEL_VERSION = "model_version"
BATCH_ROWS = 1024
_BATCHES_IN_GROUP = 64  # of one row group of what is written: few large ones are read faster
_COLUMNS: dict[Part, str] = {
    "class": "predicted_class",
    "probabilities": "probabilities",
    "value": "predicted_value",
}


@dataclass(frozen=True)
class BatchResult:
    """What was written: how many predictions, by which version, where."""

    rows: int
    version: str
    path: Path


def predict_batch(project: Project, data: Path, output: Path) -> BatchResult:
    """Writes a Parquet file with a row for each input row: its plain columns and the prediction.

    Columns added: `predicted_class` int64 and `probabilities` list of float32, or `predicted_value` float32 of a
    regression, behind `<task>_` where there are several tasks; and `model_version` text. A feature with a default may
    be missing from the file or from a row. The rows keep their order, and a set number of batches is in memory
    at a time. The file appears whole or not at all.

    Raises:
        ServingError: Nothing was deployed yet.
        DataError: The file cannot be read, or a row does not fit the model.
    """
    champion = Ledger(project.ledger_url).champion()
    if champion is None:
        where = f"project {project.settings.name}"
        raise ServingError(where, "must have a champion", "none", "`perennial run` trains the first one.")
    registry = Registry(project)
    folder = registry.fetch(registry.version(champion.version))
    contract = read_contract(folder)
    columns = read_columns(data, [feature.name for feature in contract.features if feature.default is None])
    schema = make_schema(plain_fields(data, columns), contract)
    model = load_model(project.settings.name, champion.version, folder, champion.digest)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".predictions.") as aside:
        written = Path(aside) / "predictions.parquet"
        try:
            rows = _write(_read(data, columns, schema, contract), model, schema, written)
        except PerennialError as error:  # a row does not fit
            raise DataError(f"{data}: {error.where}", error.expected, error.received, error.remedy) from error
        os.replace(written, output)
    return BatchResult(rows, champion.version, output)


@dataclass(frozen=True)
class _Batch:
    """Rows of a file: as columns, and as dictionaries where they come from text. `plain` is what is passed on."""

    plain: pa.RecordBatch
    columns: pa.RecordBatch | None
    rows: list[Row] | None

    def arrays(self, model: LoadedModel) -> Arrays:
        """What the model takes.

        Raises:
            InputError: A row does not fit it.
        """
        found = None if self.columns is None else to_arrays(self.columns, model.features)
        if found is not None:
            return found
        rows = self.rows if self.columns is None else self.columns.to_pylist()
        names = [feature.name for feature in model.features]
        instances = [{name: row[name] for name in names if name in row} for row in rows or []]
        return from_v1({"instances": instances}, model.features)


def _read(data: Path, columns: Sequence[str], schema: pa.Schema, contract: ModelContract) -> Iterator[_Batch]:
    import pyarrow as pa

    added = {*output_columns(contract), MODEL_VERSION}
    plain = pa.schema([field for field in schema if field.name not in added])
    if data.suffix == ".parquet":
        for batch in read_batches(data, BATCH_ROWS):
            yield _Batch(batch.select(plain.names), batch, None)
        return
    for rows in read_rows(data, columns, BATCH_ROWS):
        yield _Batch(pa.RecordBatch.from_pylist([_as_text(row, plain.names) for row in rows], plain), None, rows)


def _write(batches: Iterator[_Batch], model: LoadedModel, schema: pa.Schema, path: Path) -> int:
    """Writes the plain columns and the predictions of every batch; gives the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [output.name for output in prediction_outputs(model.contract)]
    outputs, count = output_columns(model.contract), 0
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            columns = _to_columns(model.predict(batch.arrays(model), wanted), outputs, schema)
            size = len(columns[next(iter(outputs))])
            columns[MODEL_VERSION] = pa.repeat(pa.scalar(model.version, pa.string()), size)
            columns |= dict(zip(batch.plain.schema.names, batch.plain.columns, strict=True))
            waiting.append(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))
            count += size
            if len(waiting) == _BATCHES_IN_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    return count


def output_columns(contract: ModelContract) -> dict[str, str]:
    """Column -> the model's output that it holds: `predicted_class`, or `<task>_predicted_class` of several tasks."""
    several = len(contract.tasks) > 1
    return {
        f"{task.name + '_' if several else ''}{_COLUMNS[part]}": output.name
        for task in contract.tasks
        for part, output in task_outputs(contract, task).items()
    }


def _to_columns(predictions: Predictions, outputs: dict[str, str], schema: pa.Schema) -> dict[str, pa.Array]:
    """Column -> what the model says of each row: a list of each row of a matrix."""
    import pyarrow as pa

    found = {}
    for column, name in outputs.items():
        values = predictions[name]
        if values.ndim > 1:
            offsets = pa.array(range(0, values.size + 1, values.shape[1]), pa.int32())
            found[column] = pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))
        else:
            found[column] = pa.array(values, schema.field(column).type)
    return found


def make_schema(fields: Sequence[Any], contract: ModelContract) -> Any:
    """The Arrow schema of the output: the input's plain columns, then what the model says.

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


def _as_text(row: Row, names: Sequence[str]) -> dict[str, str | None]:
    return {name: None if row.get(name) is None else str(row[name]) for name in names}
