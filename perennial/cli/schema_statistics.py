"""Measuring landed spans for `perennial schema`, outside of a run: nothing of it stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.check_examples.step import check_examples
from components.compute_statistics.step import compute_statistics
from components.ingest_examples.step import ingest_examples
from perennial.data.distributions import Distribution, read_distributions
from perennial.data.merge_statistics import combine_statistics
from perennial.data.statistics import read_statistics
from perennial.errors import DataError
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.readers.columns import Kind, merge_kinds
from perennial.schema.diff import reading_schema
from perennial.schema.environments import is_alive
from perennial.schema.inference import Seen, see_features
from perennial.spans.landed import find_landed
from perennial.spans.quarantine import unknown_span
from perennial.spans.window import State, number_versions, state_of
from schemas.records import Ingestion, Span

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

SPANS = 5  # how many of the newest spans a first schema is inferred from


@dataclass(frozen=True)
class _Read:
    """A span that was read and measured without a check."""

    record: Ingestion
    statistics: DatasetFeatureStatisticsList
    distributions: dict[str, Distribution]


@dataclass(frozen=True)
class Measured:
    """The statistics of spans together and of each, the columns in order, the rows, and why others were set aside."""

    statistics: DatasetFeatureStatisticsList
    spans: list[DatasetFeatureStatisticsList]
    columns: list[str]
    rows: int
    causes: dict[str, int]


def choose_spans(project: Project, names: Sequence[str]) -> list[Span]:
    """The named spans, or the newest ones, each in its newest version.

    Raises:
        DataError: None has landed, or a name is not among them.
    """
    landed = _landed(project)
    for name in names:
        if name not in landed:
            raise unknown_span(name, set(landed))
    return [landed[name] for name in landed if name in names] if names else list(landed.values())[-SPANS:]


def choose_span(project: Project, name: str | None) -> Span:
    """The named span; else the newest that is quarantined; else the newest.

    Raises:
        DataError: None has landed, or the name is not among them.
    """
    landed = _landed(project)
    if name is None:
        waiting = [span for span in landed.values() if span_state(project, span) == "quarantined"]
        return (waiting or list(landed.values()))[-1]
    if name not in landed:
        raise unknown_span(name, set(landed))
    return landed[name]


def span_state(project: Project, span: Span) -> State:
    """What was said of a span version last."""
    return state_of(span, Ledger(project.ledger_url).judged_spans())


def measure_anew(project: Project, spans: Sequence[Span], folder: Path) -> Measured:
    """Measures spans whose values themselves say what they are.

    Where spans disagree on the type of a feature, all are read again with the type that holds the values of each.

    Raises:
        DataError: A span cannot be read.
    """
    read = [_read_span(project, span, folder / f"{place}", infer=True) for place, span in enumerate(spans)]
    merged = _merge_types([see_features(one.statistics) for one in read])
    if merged is not None:
        typed = _with_schema(project, merged)
        read = [_read_span(typed, span, folder / f"typed-{place}") for place, span in enumerate(spans)]
    parts = [one.statistics for one in read]
    statistics = combine_statistics(parts, [one.distributions for one in read])
    columns = list(dict.fromkeys(name for one in reversed(read) for name in one.record.columns))
    causes = sum((Counter(one.record.causes) for one in read), Counter[str]())
    return Measured(statistics, parts, columns, statistics.datasets[0].num_examples, dict(causes))


def measure_span(project: Project, span: Span, folder: Path) -> Measured:
    """Measures a span as a run does, but so that what does not fit the schema is measured, too.

    Raises:
        DataError: The span cannot be read.
        ProjectError: The schema or the expectations cannot be used.
    """
    record = ingest_examples(project, span, folder / "examples")
    known = {feature.name for feature in project.schema.feature if is_alive(feature)}
    fits = not record.problem and _few(project, record)
    if not fits or not set(record.columns) <= known:
        project, record = _read_as_it_is(project, span, folder, fits)
    check_examples(project, folder / "examples", folder / "checked")
    options, output, label = project.settings.beam.options, folder / "statistics", project.settings.label
    compute_statistics(folder / "checked", options, output, project.schema, (label,))
    statistics = read_statistics(output)
    rows = statistics.datasets[0].num_examples
    return Measured(statistics, [statistics], record.columns, rows, record.causes)


def _few(project: Project, record: Ingestion) -> bool:
    """Whether so few rows were set aside that a run takes the others."""
    rows = sum(record.rows.values()) + record.set_aside
    return record.set_aside <= project.settings.checks.set_aside * rows


def _read_as_it_is(project: Project, span: Span, folder: Path, fits: bool) -> tuple[Project, Ingestion]:
    """Ingests a span into `folder/examples` by a schema that its values fit; gives the project with this schema.

    Args:
        project: The project.
        span: What is read.
        folder: A folder to work in.
        fits: Whether the values of the columns that the schema knows fit it.
    """
    guessed = see_features(_read_span(project, span, folder / "guessed", infer=True).statistics)
    label = "" if fits else project.settings.label
    for spoilt in (False, True):
        changed = _with_schema(project, reading_schema(project.schema, guessed, label, spoilt))
        record = ingest_examples(changed, span, folder / "examples")
        if not record.problem:
            return changed, record
    raise _unreadable(record)


def _landed(project: Project) -> dict[str, Span]:
    """The newest version of each span that lies there, oldest span first."""
    spans = number_versions(find_landed(project), Ledger(project.ledger_url).judged_spans())
    if not spans:
        data = project.settings.data
        where = f"data.{'table' if data.table else 'spans'}"
        received = f"none at {data.spans}" if data.spans else "no rows"
        raise DataError(where, "must hold a span that landed", received, "Land one, then try again.")
    return {span.name: span for span in spans}


def _ingest(project: Project, span: Span, folder: Path, infer: bool = False) -> Ingestion:
    record = ingest_examples(project, span, folder, infer=infer)
    if record.problem:
        raise _unreadable(record)
    return record


def _unreadable(record: Ingestion) -> DataError:
    remedy = "`perennial schema` can tell of spans that can be read only."
    received = (record.problem or "").rstrip(".")
    return DataError(f"span {record.span.name}", "must be readable", received, remedy)


def _read_span(project: Project, span: Span, folder: Path, infer: bool = False) -> _Read:
    record = _ingest(project, span, folder / "examples", infer)
    compute_statistics(folder / "examples", project.settings.beam.options, folder / "statistics")
    return _Read(record, read_statistics(folder / "statistics"), read_distributions(folder / "statistics"))


def _merge_types(seen: Sequence[Mapping[str, Seen]]) -> Schema | None:
    """A schema with the types that hold the values of every span, or None where the spans agree."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    names: dict[int, Kind] = {schema_pb2.INT: "int", schema_pb2.FLOAT: "float", schema_pb2.BYTES: "bytes"}
    types: dict[Kind, schema_pb2.FeatureType] = {name: type_ for type_, name in names.items()}
    kinds: dict[str, set[Kind]] = {}
    for span in seen:
        for feature, found in span.items():
            kinds.setdefault(feature, set()).add(names[found.type])
    if all(len(found) == 1 for found in kinds.values()):
        return None
    features = [schema_pb2.Feature(name=name, type=types[merge_kinds(found)]) for name, found in kinds.items()]
    return schema_pb2.Schema(feature=features)


def _with_schema(project: Project, schema: Schema) -> Project:
    """The project as if its schema.pbtxt held another schema."""
    changed = replace(project)
    vars(changed)["schema"] = schema  # where the cached property keeps what it has read
    return changed
