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
from perennial.examples import serving_features
from perennial.ledger import Ledger
from perennial.project import Project
from perennial.registry import Registry
from serving.inputs import from_v1
from serving.runtime import LoadedModel, load_model

OUTPUT_COLUMNS = ("predicted_class", "probabilities", "model_version")
_LONGEST_BATCH = 512


@dataclass(frozen=True)
class BatchResult:
    """What was written: how many predictions, by which version, where."""

    rows: int
    version: str
    path: Path


def predict_batch(project: Project, data: Path, output: Path) -> BatchResult:
    """Writes a Parquet file with a row for each input row: its plain columns and the prediction.

    Columns added: `predicted_class` int64, `probabilities` list of float32, `model_version` text. The order of the rows
    is not kept; the input's own columns tell them apart. The file appears whole or not at all.

    Raises:
        ServingError: Nothing was deployed yet.
        DataError: The file cannot be read, or a row does not fit the model.
    """
    champion = Ledger(project.ledger_url).champion()
    if champion is None:
        where = f"project {project.settings.name}"
        raise ServingError(where, "must have a champion", "none", "`perennial run` trains the first one.")
    columns = read_columns(data, serving_features(project.schema))
    registry = Registry(project)
    folder = registry.fetch(registry.version(champion.version))
    predictor = Predictor(project.settings.name, champion.version, folder, champion.digest)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".predictions.") as aside:
        try:
            _run(project, data, columns, predictor, Path(aside) / "predictions")
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
        names = [feature.name for feature in self._model.features]
        instances = [{name: row[name] for name in names if name in row} for row in rows]
        predictions = self._model.predict(from_v1({"instances": instances}, self._model.features))
        for row, label, scores in zip(rows, predictions.classes, predictions.probabilities, strict=True):
            answer = (int(label), [float(score) for score in scores], self._model.version)
            yield row | dict(zip(OUTPUT_COLUMNS, answer, strict=True))


def _run(project: Project, data: Path, columns: Sequence[str], predictor: Predictor, prefix: Path) -> None:
    import pyarrow as pa

    passed = [field for field in plain_fields(data, columns) if field.name not in OUTPUT_COLUMNS]
    kinds = (pa.int64(), pa.list_(pa.float32()), pa.string())
    schema = pa.schema([*passed, *map(pa.field, OUTPUT_COLUMNS, kinds)])
    with make_pipeline(project.settings.beam.options) as pipeline:
        (
            pipeline
            | "Read" >> read_rows(data, columns)
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
