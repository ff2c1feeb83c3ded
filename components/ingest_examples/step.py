"""Turns one landed span into tf.Examples, split by a hash of each example's key."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.beam import make_pipeline
from perennial.digests import digest_file
from perennial.errors import DataError
from perennial.examples import split_of, split_prefix, to_example
from perennial.project import Project
from perennial.publishing import publish_text
from schemas.project import SPLITS, ProjectSettings, SplitSettings
from schemas.records import Ingestion, Span

if TYPE_CHECKING:
    import pyarrow as pa

RECORD_FILE = "ingestion.json"
_COUNTS = "label_counts"


def ingest_examples(project: Project, span: Span, output: Path) -> Ingestion:
    """Writes `output/Split-{train,eval,test}/data_tfrecord-*.gz` and a record of what was read.

    A file that cannot be read as examples is not an error of the step: the record holds the problem, and
    validation refuses the span with it.

    Raises:
        DataError: The file changed after the run selected it.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = Path(span.uri)
    problem = find_problem(path, project.settings.data.key)
    if problem is None:
        problem = _write_splits(project, path, output)
    if digest_file(path) != span.fingerprint:
        raise DataError(str(path), "must not change while it is read", "other bytes", "Land it whole, then run again.")
    counts = {} if problem else _read_counts(output)
    rows = {split: counts.get(split, {}) for split in SPLITS}
    record = Ingestion(
        span=span,
        rows={split: sum(labels.values()) for split, labels in rows.items()},
        labels=_total(rows.values()),
        problem=problem,
    )
    publish_text(record.model_dump_json(indent=2), output / RECORD_FILE)
    return record


def read_ingestion(folder: Path) -> Ingestion:
    """The record that `ingest_examples` left in a folder of examples."""
    return Ingestion.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))


def find_problem(path: Path, key: str) -> str | None:
    """Why a file cannot be read as examples, or None: not Parquet, no rows, no key."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
        columns, rows = parquet.schema_arrow.names, parquet.metadata.num_rows
        nulls = pq.read_table(path, columns=[key])[key].null_count if key in columns else 0
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise DataError(str(path), "must be readable", error, "Land it again.") from error
        return f"{path.name} must be a whole Parquet file. Received: {_first_line(error)}. Land it again."
    if rows == 0:
        return f"{path.name} must hold examples. Received: 0 rows. Land it again."
    if key not in columns:
        return f"{path.name} must have the column `{key}` (data.key). Received: {', '.join(columns)}. Land it again."
    if nulls:
        return (
            f"{path.name}: `{key}` (data.key) must be set in every row. Received: {nulls} rows without. Land it again."
        )
    return None


def _write_splits(project: Project, path: Path, output: Path) -> str | None:
    """Runs the Beam pipeline; gives the problem of a row that is no example, or None."""
    import pyarrow as pa

    try:
        with make_pipeline(project.settings.beam.options) as pipeline:
            _add_transforms(pipeline, path, output, project.settings)
    except (TypeError, pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's fault, not the data's
        cause = _first_line(error).split(" [while running")[0]  # Beam adds the name of its transform
        return f"{path.name}: {cause}. Land it again."
    return None


def _add_transforms(pipeline: Any, path: Path, output: Path, settings: ProjectSettings) -> None:
    import apache_beam as beam

    rows = pipeline | "Read" >> beam.io.ReadFromParquetBatched(str(path)) | "Rows" >> beam.FlatMap(_to_rows)
    labelled = rows | "Name split" >> beam.Map(_with_split(settings.data.key, settings.data.splits))
    for number, split in enumerate(SPLITS):
        (
            labelled
            | f"Choose[{split}]" >> beam.Filter(lambda item, number=number: item[0] == number)
            | f"Example[{split}]" >> beam.Map(_serialise).with_output_types(bytes)
            | f"Write[{split}]" >> beam.io.WriteToTFRecord(split_prefix(output, split), file_name_suffix=".gz")
        )
    (
        labelled
        | "Label" >> beam.Map(lambda item: (SPLITS[item[0]], _label_name(item[1].get(settings.label))))
        | "Count" >> beam.combiners.Count.PerElement()
        | "Format" >> beam.Map(lambda item: json.dumps([*item[0], item[1]]))
        | "Write counts" >> beam.io.WriteToText(str(output / _COUNTS))
    )


def _with_split(key: str, splits: SplitSettings) -> Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]:
    return lambda row: (SPLITS.index(split_of(str(row[key]), splits)), row)


def _serialise(item: tuple[int, Any]) -> bytes:
    serialised: bytes = to_example(item[1]).SerializeToString(deterministic=True)
    return serialised


def _label_name(value: Any) -> str:
    return "missing" if value is None else str(value)


def _read_counts(output: Path) -> dict[str, dict[str, int]]:
    """Split -> label -> examples, from the files that the pipeline wrote."""
    counts: dict[str, dict[str, int]] = {}
    for file in sorted(output.glob(f"{_COUNTS}-*")):
        for line in file.read_text(encoding="utf-8").splitlines():
            split, label, count = json.loads(line)
            counts.setdefault(split, {})[label] = count
    return counts


def _total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Examples per label over all splits; numeric labels in their order, others after them."""
    total: Counter[str] = Counter()
    for labels in counts:
        total.update(labels)
    return dict(sorted(total.items(), key=lambda item: (not item[0].isdecimal(), len(item[0]), item[0])))


def _to_rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].removesuffix(".") if str(error).strip() else type(error).__name__
