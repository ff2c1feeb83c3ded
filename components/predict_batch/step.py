"""Scores a file with the champion, with Beam."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from perennial.beam import make_pipeline
from perennial.errors import DataError, PerennialError, ServingError
from perennial.examples import serving_features
from perennial.ledger import Ledger
from perennial.project import Project
from perennial.registry import Registry
from serving.features import InputError
from serving.inputs import from_v1
from serving.runtime import LoadedModel, load_model

OUTPUT_COLUMNS = ("predicted_class", "probabilities", "model_version")
_FORMATS = (".parquet", ".csv", ".jsonl", ".json", ".ndjson")
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
        DataError: The file cannot be read, or a row does not fit the model; the message shows the row.
    """
    champion = Ledger(project.ledger_url).champion()
    if champion is None:
        where = f"project {project.settings.name}"
        raise ServingError(where, "must have a champion", "none", "`perennial run` trains the first one.")
    columns = _check_file(data, serving_features(project.schema))
    registry = Registry(project)
    folder = registry.fetch(registry.version(champion.version))
    predictor = Predictor(project.settings.name, champion.version, folder, champion.digest)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".predictions.") as aside:
        try:
            _run(project, data, columns, predictor, Path(aside) / "predictions")
        except PerennialError:
            raise
        except Exception as error:
            raise _data_error(data, error) from error
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

    def process(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Predicts a batch of rows."""
        assert self._model is not None
        names = [feature.name for feature in self._model.features]
        instances = [{name: row.get(name) for name in names if name in row} for row in rows]
        predictions = self._model.predict(from_v1({"instances": instances}, self._model.features))
        for row, label, scores in zip(rows, predictions.classes, predictions.probabilities, strict=True):
            plain = {name: value for name, value in row.items() if not isinstance(value, list | dict)}
            answer = (int(label), [float(score) for score in scores], self._model.version)
            yield plain | dict(zip(OUTPUT_COLUMNS, answer, strict=True))


def _run(project: Project, data: Path, columns: Sequence[str], predictor: Predictor, prefix: Path) -> None:
    with make_pipeline(project.settings.beam.options) as pipeline:
        (
            pipeline
            | "Read" >> _reader(data, columns)
            | "Batch" >> beam.BatchElements(min_batch_size=16, max_batch_size=_LONGEST_BATCH)
            | "Predict" >> beam.ParDo(predictor)
            | "Write" >> beam.io.WriteToParquet(str(prefix), _output_schema(data, columns), ".parquet", num_shards=1)
        )


def _reader(data: Path, columns: Sequence[str]) -> Any:
    if data.suffix == ".parquet":
        return beam.io.ReadFromParquet(str(data))
    if data.suffix == ".csv":
        return _TextRows(str(data), 1, _CsvRow(list(columns)))
    return _TextRows(str(data), 0, _json_row)


class _TextRows(beam.PTransform):  # type: ignore[type-arg]
    """Reads a text file and parses each line that is not blank."""

    def __init__(self, path: str, header_lines: int, parse: Any) -> None:
        super().__init__()
        self._path, self._header_lines, self._parse = path, header_lines, parse

    def expand(self, pipeline: Any) -> Any:
        lines = pipeline | beam.io.ReadFromText(self._path, skip_header_lines=self._header_lines)
        return lines | beam.Filter(str.strip) | beam.Map(self._parse).with_output_types(dict[str, Any])


class _CsvRow:
    """Parses a line of CSV. A list is written as a JSON array in its cell; numbers as such; empty is missing."""

    def __init__(self, columns: list[str]) -> None:
        self._columns = columns

    def __call__(self, line: str) -> dict[str, Any]:
        cells = next(csv.reader([line]))
        if len(cells) != len(self._columns):
            raise ValueError(f"a row must have {len(self._columns)} cells. Received: {len(cells)} in {line[:80]!r}")
        return {name: _cell(cell) for name, cell in zip(self._columns, cells, strict=True)}


def _cell(cell: str) -> Any:
    if not cell:
        return None
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        return cell


def _json_row(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"a line must be a JSON object. Received: {line[:80]!r}")
    return row


def _check_file(data: Path, features: Sequence[str]) -> list[str]:
    """The columns of the file.

    Raises:
        DataError: It is missing, empty, of an unknown format, or lacks a feature that the model needs.
    """
    if data.suffix not in _FORMATS:
        raise DataError(
            str(data), f"must end in one of {', '.join(_FORMATS)}", data.suffix or "no ending", "Convert it."
        )
    try:
        columns = _columns(data)
    except FileNotFoundError:
        raise DataError(str(data), "must exist", "no such file", "Check the path.") from None
    except Exception as error:  # each format has errors of its own
        raise _data_error(data, error) from error
    missing = [name for name in features if name not in columns]
    if missing:
        expected = f"must have the features that the model needs ({', '.join(features)})"
        raise DataError(
            str(data), expected, f"no {', '.join(missing)} among {', '.join(columns) or 'no columns'}", "Add it."
        )
    return columns


def _columns(data: Path) -> list[str]:
    import pyarrow.parquet as pq

    if data.suffix == ".parquet":
        return list(pq.read_schema(data).names)
    with data.open(encoding="utf-8", newline="") as lines:
        first = next((line for line in lines if line.strip()), "")
    if data.suffix == ".csv":
        return next(csv.reader([first]), [])
    return list(_json_row(first)) if first else []


def _output_schema(data: Path, columns: Sequence[str]) -> Any:
    """Plain input columns keep their type; CSV and JSON Lines columns take the types that pandas infers."""
    import pyarrow as pa

    found = _input_schema(data, columns)
    plain = [field for field in found if not (pa.types.is_nested(field.type) or field.name in OUTPUT_COLUMNS)]
    added = zip(OUTPUT_COLUMNS, (pa.int64(), pa.list_(pa.float32()), pa.string()), strict=True)
    return pa.schema([*plain, *(pa.field(name, kind) for name, kind in added)])


def _input_schema(data: Path, columns: Sequence[str]) -> Iterable[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data.suffix == ".parquet":
        return list(pq.read_schema(data))
    parse = _CsvRow(list(columns)) if data.suffix == ".csv" else _json_row
    with data.open(encoding="utf-8") as lines:
        if data.suffix == ".csv":
            next(lines)
        rows = [parse(line.rstrip("\r\n")) for line, _ in zip(lines, range(1000), strict=False) if line.strip()]
    return list(pa.Table.from_pylist(rows).schema)


def _count_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _data_error(data: Path, error: BaseException) -> DataError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    lines = str(cause or error).strip().splitlines()
    return DataError(
        str(data), "must hold rows that the model takes", lines[0] if lines else type(error).__name__, "Correct it."
    )
