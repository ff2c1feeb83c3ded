"""Scores a file with the champion, with Beam."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from components.predict_batch.rows import Row, plain_fields, read_columns, read_rows
from perennial.beam import make_pipeline
from perennial.errors import DataError, PerennialError, ServingError
from perennial.ledger import Ledger
from perennial.modelling.contract import read_contract
from perennial.project import Project
from perennial.registry import Registry
from perennial.tasks import Part
from schemas.records import ModelContract
from serving.inputs import from_v1
from serving.outputs import prediction_outputs, task_outputs
from serving.runtime import LoadedModel, load_model

MODEL_VERSION = "model_version"
_LONGEST_BATCH = 512
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
    be missing from the file or from a row. The order of the rows is not kept; the input's own columns tell them apart.
    The file appears whole or not at all.

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
    predictor = Predictor(project.settings.name, champion.version, folder, champion.digest)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".predictions.") as aside:
        try:
            _run(project, read_rows(data, columns), predictor, schema, Path(aside) / "predictions")
        except Exception as error:
            raise _told(data, error) or error from error
        (written,) = Path(aside).glob("predictions*")
        os.replace(written, output)
    return BatchResult(_count_rows(output), champion.version, output)


class Predictor(beam.DoFn):
    """Predicts batches of rows; loads the model once in each worker."""

    def __init__(self, name: str, version: str, folder: Path, digest: str) -> None:
        self._model_at = (name, version, folder, digest)
        self._model: LoadedModel | None = None

    def setup(self) -> None:
        """Loads the model, verified."""
        self._model = load_model(*self._model_at)

    def process(self, rows: list[Row]) -> Iterator[Row]:
        """Predicts a batch of rows."""
        assert self._model is not None
        model = self._model
        names = [feature.name for feature in model.features]
        instances = [{name: row[name] for name in names if name in row} for row in rows]
        wanted = [output.name for output in prediction_outputs(model.contract)]
        found = model.predict(from_v1({"instances": instances}, model.features), wanted)
        columns = {column: found[name].tolist() for column, name in output_columns(model.contract).items()}
        for row, *answer in zip(rows, *columns.values(), strict=True):
            yield row | dict(zip(columns, answer, strict=True)) | {MODEL_VERSION: model.version}


def output_columns(contract: ModelContract) -> dict[str, str]:
    """Column -> the model's output that it holds: `predicted_class`, or `<task>_predicted_class` of several tasks."""
    several = len(contract.tasks) > 1
    return {
        f"{task.name + '_' if several else ''}{_COLUMNS[part]}": output.name
        for task in contract.tasks
        for part, output in task_outputs(contract, task).items()
    }


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


def _run(project: Project, rows: Any, predictor: Predictor, schema: Any, prefix: Path) -> None:
    with make_pipeline(project.settings.beam.options) as pipeline:
        (
            pipeline
            | "Read" >> rows
            | "Batch" >> beam.BatchElements(min_batch_size=16, max_batch_size=_LONGEST_BATCH)
            | "Predict" >> beam.ParDo(predictor)
            | "Fit" >> beam.Map(_fit, schema)
            | "Write" >> beam.io.WriteToParquet(str(prefix), schema, file_name_suffix=".parquet", num_shards=1)
        )


def _fit(row: Row, schema: Any) -> Row:
    """The columns of the output, text where the schema says so."""
    import pyarrow as pa

    as_text = {field.name for field in schema if pa.types.is_string(field.type)}
    fitted = {name: row.get(name) for name in schema.names}
    return {n: str(v) if n in as_text and v is not None else v for n, v in fitted.items()}


def _count_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _told(data: Path, error: BaseException) -> DataError | None:
    """What a row that does not fit says to a person; Beam wraps the error that says it. None: not a row's fault."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PerennialError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return DataError(f"{data}: {cause.where}", cause.expected, cause.received, cause.remedy)
