"""Training/serving skew: whether served requests are distributed as the span that the model trains on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from components.validate_data.drift import Baseline, Rules, check_drift
from perennial.errors import PerennialError
from perennial.examples import serving_features
from perennial.files import find_files
from perennial.project import Project
from perennial.reading.columns import Column, columns_of
from perennial.reading.conforming import Conformed, Conformer
from perennial.reading.read import format_of, read_rows
from perennial.reading.rows import Part

if TYPE_CHECKING:
    import pyarrow as pa

    from perennial.distributions import Distribution
    from schemas.records import Check

REQUESTS = 50_000
"""The newest files of the log are read until so many requests: at that size noise is below what matters."""
_BATCH = 1000
ALL = "all features"


def read_served(project: Project) -> Baseline | str:
    """How the newest served requests are distributed, or why that cannot be told; files are ordered by their names."""
    pattern = project.settings.data.serving_log
    if pattern is None:
        return "no serving log: project.yaml sets no data.serving_log"
    try:
        files = find_files(project.folder, pattern)
        if not files:
            return f"no serving log: no file matches {pattern} (data.serving_log)"
        rows, columns = _rows(project, files[::-1]), _serving_columns(project)
        found = _measure(project, islice(_conform(rows, columns, project), REQUESTS), columns)
    except PerennialError as error:  # the log is no part of the span: what is wrong with it must not stop a run
        return f"the serving log cannot be read: {error}"
    requests = max((part.examples for part in found.values()), default=0)
    if not requests:
        return f"no serving log: no requests in {pattern} (data.serving_log)"
    return Baseline(f"{requests:,} served requests", found)


def check_skew(project: Project, span: Mapping[str, Distribution], served: Baseline | str) -> list[Check]:
    """Compares each feature that clients send between a span and served requests.

    It has the thresholds of drift; `skew_comparator` in schema.pbtxt sets others.
    """
    checks, data = project.settings.checks, project.settings.data
    rules = Rules(data.key, project.settings.label, checks.false_alarms, checks.skew, checks.skew, "skew")
    if isinstance(served, str):
        return [rules.check(ALL, "not_compared", served)]
    sent = set(serving_features(project.schema)) - {project.settings.label}
    return check_drift([feature for feature in project.schema.feature if feature.name in sent], span, [served], rules)


def _serving_columns(project: Project) -> dict[str, Column]:
    sent = set(serving_features(project.schema))
    return {name: column for name, column in columns_of(project.schema).items() if name in sent}


def _rows(project: Project, files: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    data = project.settings.data
    for uri in files:
        part = Part(
            uri, uri.removeprefix(f"{project.folder}/"), format_of(uri, data.format if "." not in uri else None)
        )
        yield from (row.values for row in read_rows(part, data.max_value_mb) if row.reason is None)


def _conform(rows: Iterator[Mapping[str, Any]], columns: Mapping[str, Column], project: Project) -> Iterator[Conformed]:
    """Rows of the features that clients send; a value that is none of its feature's is as if it were missing."""
    conformer = Conformer(columns, project.settings.data.max_value_mb)
    for values in rows:
        yield conformer.conform({name: value for name, value in values.items() if name in columns})[0]


def _measure(project: Project, rows: Iterator[Conformed], columns: Mapping[str, Column]) -> dict[str, Distribution]:
    from perennial.tfx_compat import import_tfdv

    import_tfdv()
    from components.compute_statistics.measuring import measure_distributions

    measure = measure_distributions(project.schema)
    counts = measure.create_accumulator()
    while batch := list(islice(rows, _BATCH)):
        counts = measure.add_input(counts, _record_batch(batch, columns))
    return measure.extract_output(counts)


def _record_batch(rows: Sequence[Conformed], columns: Mapping[str, Column]) -> pa.RecordBatch:
    """Rows as the examples' decoder gives them: a list of values for each feature, null where it is missing."""
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float32(), "bytes": pa.binary()}
    arrays = {
        name: pa.array([_as_list(row.get(name)) for row in rows], pa.list_(types[column.kind]))
        for name, column in columns.items()
    }
    return pa.RecordBatch.from_pydict(arrays)


def _as_list(value: Any) -> list[Any] | None:
    return value if value is None or isinstance(value, list) else [value]
