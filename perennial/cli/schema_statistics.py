"""Statistics of landed spans for `perennial schema`, measured outside of a run and not kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.check_examples.step import check_examples
from components.compute_statistics.step import compute_statistics
from components.ingest_examples.step import ingest_examples
from perennial.cli.disagreeing_spans import find_disagreement
from perennial.data.distributions import Distribution, read_distributions
from perennial.data.merge_statistics import combine_statistics
from perennial.data.statistics import read_statistics
from perennial.data.worker_files import Workers
from perennial.errors import DataError, ProjectError
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.readers.columns import Kind, merge_kinds
from perennial.schema.diff import reading_schema
from perennial.schema.environments import is_alive
from perennial.schema.inference import Seen, see_features
from perennial.spans.landed import find_landed
from perennial.spans.quarantine import unknown_span
from perennial.spans.window import State, number_versions, state_of
from schemas.project import BeamSettings
from schemas.records import InferredColumns, Ingestion, Span

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

SPANS = 5  # how many of the newest spans a first schema is inferred from


@dataclass(frozen=True)
class _Unchecked:
    """Statistics of one span that was not checked."""

    record: Ingestion
    statistics: DatasetFeatureStatisticsList
    distributions: dict[str, Distribution]
    inferred: InferredColumns | None


@dataclass(frozen=True)
class Measured:
    """Statistics of spans: of all together and of each.

    `columns` are in order; `causes` counts the rows that were set aside, by the reason; `inferred`
    tells what the values of each span look like, where no schema said what they are.
    """

    statistics: DatasetFeatureStatisticsList
    spans: list[DatasetFeatureStatisticsList]
    columns: list[str]
    rows: int
    causes: dict[str, int]
    inferred: Sequence[InferredColumns] = ()


def choose_spans(project: Project, names: Sequence[str]) -> list[Span]:
    """Chooses the named spans, or the newest ones, each in its newest version.

    Raises:
        DataError: None has landed, or a name is not among them.
    """
    landed = _landed(project)
    for name in names:
        if name not in landed:
            raise unknown_span(name, set(landed))
    if not names:
        return list(landed.values())[-SPANS:]
    return [landed[name] for name in landed if name in names]


def choose_span(project: Project, name: str | None) -> Span:
    """Chooses the named span; else the newest that is quarantined; else the newest.

    Raises:
        DataError: None has landed, or the name is not among them.
    """
    landed = _landed(project)
    if name is None:
        spans = list(landed.values())
        quarantined = [span for span in spans if span_state(project, span) == "quarantined"]
        return (quarantined or spans)[-1]
    if name not in landed:
        raise unknown_span(name, set(landed))
    return landed[name]


def span_state(project: Project, span: Span) -> State:
    """Gives the state of a span version by its newest judgement."""
    return state_of(span, Ledger(project.ledger_url).judged_spans())


def measure_anew(project: Project, spans: Sequence[Span], folder: Path) -> Measured:
    """Measures spans without a schema: the types of features are inferred from the values.

    Where spans disagree on the type of a feature, all are read again with the type that holds the
    values of each.

    Raises:
        DataError: A span cannot be read, or spans hold text and numbers in the same column.
    """
    project = _on_this_machine(project)
    folders = {span.name: folder / f"{number}" for number, span in enumerate(spans)}
    measured = [_measure_unchecked(project, s, folders[s.name], infer=True) for s in spans]
    inferred = [each.inferred for each in measured if each.inferred is not None]
    merged = _merge_types([see_features(each.statistics) for each in measured])
    if merged is not None:
        typed = _with_schema(project, merged)
        seen = [see_features(each.statistics) for each in measured]
        try:
            measured = [_measure_unchecked(typed, s, folders[s.name] / "typed") for s in spans]
        except DataError as error:
            raise find_disagreement(project, spans, seen) or error from None
    parts = [each.statistics for each in measured]
    statistics = combine_statistics(parts, [each.distributions for each in measured])
    columns = list(dict.fromkeys(c for each in reversed(measured) for c in each.record.columns))
    causes = sum((Counter(each.record.causes) for each in measured), Counter[str]())
    rows = statistics.datasets[0].num_examples
    return Measured(statistics, parts, columns, rows, dict(causes), inferred)


def measure_span(project: Project, span: Span, folder: Path) -> Measured:
    """Measures a span as a run does, and also what does not fit the schema.

    Raises:
        DataError: The span cannot be read.
        ProjectError: The schema or the expectations cannot be used.
    """
    project = _on_this_machine(project)
    record = ingest_examples(project, span, folder / "examples")
    known = {feature.name for feature in project.schema.feature if is_alive(feature)}
    rows = sum(record.rows.values()) + record.set_aside
    few_set_aside = record.set_aside <= project.settings.checks.set_aside * rows
    fits = not record.problem and few_set_aside  # as a run decides
    changed = project
    if not fits or not set(record.columns) <= known:
        changed, record = _ingest_by_own_types(project, span, folder, fits)
    checked = folder / "checked"
    try:
        check_examples(changed, folder / "examples", checked)
    except ProjectError:
        if changed is project:
            raise
        checked = folder / "examples"  # a rule does not fit the types that are proposed
    workers, output, label = (
        Workers.of(project),
        folder / "statistics",
        project.settings.label,
    )
    compute_statistics(checked, workers, output, changed.schema, (label,))
    statistics = read_statistics(output)
    rows = statistics.datasets[0].num_examples
    return Measured(statistics, [statistics], record.columns, rows, record.causes)


def _on_this_machine(project: Project) -> Project:
    """Gives the project with Beam's workers here: what is measured is kept nowhere else."""
    settings = project.settings.model_copy(update={"beam": BeamSettings()})
    return replace(project, settings=settings)


def _ingest_by_own_types(
    project: Project,
    span: Span,
    folder: Path,
    fits: bool,
) -> tuple[Project, Ingestion]:
    """Ingests a span into `folder/examples` by a schema that its values fit.

    Args:
        project: The project.
        span: The span to ingest.
        folder: A folder to work in.
        fits: Whether the values of the columns that the schema knows fit it.

    Returns:
        The project with that schema, and the record of the ingestion.
    """
    measured = _measure_unchecked(project, span, folder / "inferred", infer=True)
    features = see_features(measured.statistics)
    label = "" if fits else project.settings.label
    for spoilt in (False, True):
        changed = _with_schema(project, reading_schema(project.schema, features, label, spoilt))
        record = ingest_examples(changed, span, folder / "examples")
        if not record.problem:
            return changed, record
    raise _unreadable(record)


def _landed(project: Project) -> dict[str, Span]:
    """Finds the newest version of each landed span, oldest span first."""
    spans = number_versions(find_landed(project), Ledger(project.ledger_url).judged_spans())
    if not spans:
        data = project.settings.data
        where = f"data.{'table' if data.table else 'spans'}"
        received = f"none at {data.spans}" if data.spans else "no rows"
        expected, remedy = "must hold a span that landed", "Land one, then try again."
        raise DataError(where, expected, received, remedy)
    return {span.name: span for span in spans}


def _unreadable(record: Ingestion) -> DataError:
    received = (record.problem or "").rstrip(".")
    remedy = "Correct it and land it again, or name a span that can be read."
    return DataError(f"span {record.span.name}", "must be readable", received, remedy)


def _measure_unchecked(
    project: Project,
    span: Span,
    folder: Path,
    infer: bool = False,
) -> _Unchecked:
    examples, statistics = folder / "examples", folder / "statistics"
    record = ingest_examples(project, span, examples, infer=infer)
    if record.problem:
        raise _unreadable(record)
    compute_statistics(examples, Workers.of(project), statistics)
    inferred = InferredColumns.read(examples) if infer else None
    return _Unchecked(record, read_statistics(statistics), read_distributions(statistics), inferred)


def _merge_types(spans: Sequence[Mapping[str, Seen]]) -> Schema | None:
    """Makes a schema of the types that hold every span's values; None where the spans agree."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    types: dict[Kind, schema_pb2.FeatureType] = {
        "int": schema_pb2.INT,
        "float": schema_pb2.FLOAT,
        "bytes": schema_pb2.BYTES,
    }
    names: dict[int, Kind] = {value: name for name, value in types.items()}
    kinds: dict[str, set[Kind]] = {}
    for features in spans:
        for name, feature in features.items():
            kinds.setdefault(name, set()).add(names[feature.type])
    if all(len(several) == 1 for several in kinds.values()):
        return None
    schema = schema_pb2.Schema()
    for name, several in kinds.items():
        schema.feature.add(name=name, type=types[merge_kinds(several)])
    return schema


def _with_schema(project: Project, schema: Schema) -> Project:
    """Copies the project as if its schema.pbtxt held another schema."""
    changed = replace(project)
    vars(changed)["schema"] = schema  # where the cached property keeps what it has read
    return changed
