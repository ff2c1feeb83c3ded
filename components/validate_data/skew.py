"""Training/serving skew: whether requests are distributed as the span that the model trains on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from components.validate_data.drift import Baseline, Rules, check_drift
from perennial.data.distributions import count_examples
from perennial.data.serving_log import find_log, no_requests, reading_log
from perennial.errors import NotComparedError
from perennial.project import Project
from perennial.readers.columns import Column
from perennial.readers.convert import Conformed
from perennial.schema.environments import serving_features

if TYPE_CHECKING:
    import pyarrow as pa

    from perennial.data.distributions import Distribution
    from schemas.records import Check

_BATCH = 1000
ALL = "all features"


def read_served(project: Project) -> Baseline | NotComparedError:
    """Measures the newest served requests once for all spans; gives why it cannot."""
    try:
        log = find_log(project)
        with reading_log():
            distributions = _measure(project, log.rows(), log.columns)
    except NotComparedError as reason:
        return reason
    requests = count_examples(distributions)
    return (
        Baseline(f"{requests:,} served requests", distributions)
        if requests
        else no_requests(project)
    )


def check_skew(
    project: Project, span: Mapping[str, Distribution], served: Baseline | NotComparedError
) -> list[Check]:
    """Compares each feature that clients send between a span and served requests.

    Where these could not be measured, one check holds the reason. The comparison has the thresholds
    of drift; `skew_comparator` in schema.pbtxt sets others.
    """
    checks, data = project.settings.checks, project.settings.data
    rules = Rules(
        data.key, project.settings.label, checks.false_alarms, checks.skew, checks.skew, "skew"
    )
    if isinstance(served, NotComparedError):
        check = rules.check(ALL, "not_compared", str(served))
        return [check.model_copy(update={"exempt": data.serving_log is None})]
    sent = set(serving_features(project.schema)) - {project.settings.label}
    return check_drift(
        [feature for feature in project.schema.feature if feature.name in sent],
        span,
        [served],
        rules,
    )


def _measure(
    project: Project, rows: Iterator[Conformed], columns: Mapping[str, Column]
) -> dict[str, Distribution]:
    from perennial.tfx_compat import import_tfdv

    import_tfdv()
    from perennial.data.value_counts import measure_distributions

    measure = measure_distributions(project.schema)
    counts = measure.create_accumulator()
    while batch := list(islice(rows, _BATCH)):
        counts = measure.add_input(counts, _record_batch(batch, columns))
    return measure.extract_output(counts)


def _record_batch(rows: Sequence[Conformed], columns: Mapping[str, Column]) -> pa.RecordBatch:
    """Makes a batch as the examples' decoder does: lists of values, null where one is missing."""
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float32(), "bytes": pa.binary()}
    arrays = {
        name: pa.array([_as_list(row.get(name)) for row in rows], pa.list_(types[column.kind]))
        for name, column in columns.items()
    }
    return pa.RecordBatch.from_pydict(arrays)


def _as_list(value: Any) -> list[Any] | None:
    return value if value is None or isinstance(value, list) else [value]
