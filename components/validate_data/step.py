"""Decides which new spans may be trained on; gathers the window's examples and statistics.

A span with a failed check that is more than a warning is quarantined: the run goes on without it,
unless the check stops the run. A quarantined span is never what a later one is compared with.
Rows that several spans have count once, in the oldest or in the newest of them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.validate_data.class_checks import check_classes
from components.validate_data.column_checks import check_columns, training_features
from components.validate_data.date_parts import (
    checks_of_dates,
    date_parts,
    features_of_parts,
    is_date,
    is_part,
    merge_parts,
)
from components.validate_data.dense_features import check_dense, dense_sizes
from components.validate_data.drift import Baseline, check_drift, drift_rules, make_baselines
from components.validate_data.gather import Measured, link_window, publish_span, publish_statistics
from components.validate_data.line_breaks import check_line_breaks
from components.validate_data.repetitions import Repetitions
from components.validate_data.schema_checks import check_schema
from components.validate_data.skew import check_skew, read_served
from components.validate_data.span_date import check_date
from perennial.errors import NotComparedError
from perennial.project import Project
from perennial.readers.read import format_of
from perennial.schema.inference import see_features
from perennial.storage.files import is_url
from schemas.project import SPLITS
from schemas.records import Check, Span, SpanValidation, Validation

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature

    from perennial.data.distributions import Distribution

# What says most to a person comes first: a broken business rule more than the schema's anomaly that
# comes with it.
_TELLING = (
    *("readable", "features", "duplicates", "future", "columns", "rows", "expectation", "schema"),
    *("class_gone", "label_drift", "drift", "skew"),
)

# Fewer examples of a split are warned of: one of them is more than a tenth of any metric.
_FEW = 10
_OF_FEW = {
    "train": "a model learns next to nothing from so few",
    "eval": "chance decides which epoch and which instance is best",
    "test": "a metric may not be defined on so few, and hardly any difference can be shown",
}


def validate_data(
    project: Project,
    new_spans: Sequence[str],
    released: Sequence[str],
    checked: Sequence[Path],
    statistics: Sequence[Path],
    window: Path,
    measured: Path,
    validation: Path,
    known_rows: Mapping[str, str] | None = None,
) -> Validation:
    """Validates the new spans of a window.

    Of spans that are not new only small records and keys are read; examples only of those that lose
    rows to another span.

    Args:
        project: Holds the schema and the settings.
        new_spans: Names of the spans that no run has trained on yet.
        released: Names of those that a person released from quarantine.
        checked: Folders of `check_examples`, oldest span first.
        statistics: Folders of `compute_statistics`, in the same order.
        window: Becomes a folder with the examples of every good span, `<span>/Split-*/`, if the run
            goes on.
        measured: Becomes a folder with the good spans' combined statistics.
        validation: Becomes a folder with `validation.json` and, of each new span,
            `data_docs/<span>/`, `statistics/<span>.html` and `set_aside/<span>.jsonl`.
        known_rows: Digests of the rows of spans that are not in the window and were trained on,
            each with the name of the span.

    Raises:
        ProjectError: The schema cannot be used.
        DataError: The splits are by time and there is no older span to train on.
    """
    for folder in (window, measured, validation):  # of a killed attempt
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    spans = [Measured(*folders) for folders in zip(checked, statistics, strict=True)]
    with tempfile.TemporaryDirectory(prefix=".counted-", dir=window) as scratch:
        repetitions = Repetitions(project, spans, Path(scratch), known_rows or {})
        judged = _judge_spans(project, spans, new_spans, released, repetitions)
        good = [number for number, verdict in enumerate(judged) if verdict.in_window]
        counted = repetitions.count_once(good)
        judged = [_recount(verdict, counted.get(number)) for number, verdict in enumerate(judged)]
        final = {number: counted.get(number, spans[number]) for number in good}
        for number, verdict in enumerate(judged):
            if verdict.new:
                before = [spans[other] for other in good if other < number]
                publish_span(project, final.get(number, spans[number]), before, verdict, validation)
        by_time = project.settings.data.splits.by == "time"
        result = check_splits(conclude(judged), by_time)
        result.write(validation)
        if final:
            publish_statistics(project, list(final.values()), measured)
        if result.accepted:
            # Where other spans count all rows of a span, there is nothing of it to train on.
            kept = [
                span
                for number, span in final.items()
                if number not in counted or any(span.record.rows.values())
            ]
            link_window(project, kept, window)
    return result


def _judge_spans(
    project: Project,
    spans: Sequence[Measured],
    new_spans: Sequence[str],
    released: Sequence[str],
    repetitions: Repetitions,
) -> list[SpanValidation]:
    """Judges the spans of a window, oldest first; each new one beside those that are good."""
    sizes = dense_sizes(project)
    known = {
        number: _judge(span, new=False, released=False, checks=_unusable(project, span, sizes))
        for number, span in enumerate(spans)
        if span.name not in new_spans
    }
    served = read_served(project) if new_spans else NotComparedError("no span is new")
    good: list[int] = []
    judged: list[SpanValidation] = []
    for number, span in enumerate(spans):
        if number in known:
            verdict = known[number]
        else:
            later = [other for other in known if other > number and known[other].in_window]
            checks = [
                *_check_span(project, span, [spans[other] for other in good], served),
                *_check_landing(project, span, repetitions.check(number, [*good, *later])),
            ]
            verdict = _judge(span, new=True, released=span.name in released, checks=checks)
            if not verdict.quarantined:
                checks += _unusable(project, span, sizes)
                verdict = _judge(span, new=True, released=span.name in released, checks=checks)
        if verdict.in_window:
            good.append(number)
        judged.append(verdict)
    return judged


def conclude(spans: Sequence[SpanValidation]) -> Validation:
    """Makes the verdict on a window, with a reason for each span that is quarantined.

    The run goes on when no span stops it, not all of what is new is quarantined, and there are
    examples left.
    """
    refused = [span for span in spans if span.quarantined]
    stops = [span for span in refused if any(check.severity == "stop" for check in span.failures)]
    new = [span for span in spans if span.new]
    rows = sum(sum(span.rows.values()) for span in spans if span.in_window)
    ordered = sorted(
        refused, key=lambda span: (span not in stops, _TELLING.index(_first(span).kind))
    )
    reasons = [_reason(span) for span in ordered]
    if refused:
        reasons.append(
            "what was refused waits in quarantine: `perennial spans show|judge|release|reject`"
        )
    reasons += _left_out_reasons(spans)
    if stops:
        reasons.append(f"the run stops, as the severity of {_stopping(stops)} asks")
    if not rows:
        reasons.append("no span of the window has examples to train on")
    everything_refused = bool(new) and len(refused) == len(new)
    return Validation(
        spans=list(spans),
        accepted=not stops and not everything_refused and rows > 0,
        reasons=reasons,
    )


def check_splits(validation: Validation, by_time: bool) -> Validation:
    """Checks that each split can serve its purpose, before anything is trained.

    Refuses a window with an empty split, or with a test split of one example: no metric has an
    interval on that, so no model is ever promoted. Warns of splits with few examples. Where the
    splits are by time, the newest span is the test split.
    """
    good = [span for span in validation.spans if span.in_window]
    if not validation.accepted or (by_time and len(good) < 2):
        return validation
    held_out = good[-1:] if by_time else []
    shared = good[:-1] if by_time else good
    counts = {split: sum(span.rows.get(split, 0) for span in shared) for split in SPLITS}
    if by_time:
        counts["test"] = sum(sum(span.rows.values()) for span in held_out)
    if all(counts.values()) and counts["test"] > 1:
        few = [_few_examples(split, counts[split]) for split in SPLITS if counts[split] < _FEW]
        return validation.model_copy(update={"window_warnings": few})
    rows = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    expected = "examples in each split" if not all(counts.values()) else "at least 2 test examples"
    reason = (
        f"the window must have {expected}. Received: {rows}. Land more rows, or change "
        "data.splits; what landed stays new"
    )
    return validation.model_copy(
        update={"accepted": False, "reasons": [*validation.reasons, reason]}
    )


def _few_examples(split: str, examples: int) -> Check:
    number = f"{examples} example{'s' * (examples > 1)} in the window"
    remedy = "Land more rows, raise data.window, or change data.splits"
    return Check(
        kind="splits",
        subject=f"the {split} split",
        verdict="failed",
        message=f"{number}: {_OF_FEW[split]}. {remedy}",
        severity="warn",
    )


def name_place(project: Project, span: Span) -> str:
    """Gives a span's file or table in messages: from the project folder, without a password."""
    table = project.settings.data.table
    if table is not None:
        return f"{table.table or 'the query'} (span {span.name})"
    if is_url(span.uri) and not span.uri.startswith("file://"):
        return urlsplit(span.uri).path.lstrip("/")
    path = Path(span.uri.removeprefix("file://"))
    return (
        path.relative_to(project.folder).as_posix()
        if path.is_relative_to(project.folder)
        else path.name
    )


def _check_span(
    project: Project, span: Measured, good: Sequence[Measured], served: Baseline | NotComparedError
) -> list[Check]:
    record, schema, severities = span.record, project.schema, project.settings.checks
    if not record.readable:
        return list(record.checks)
    previous = next(
        (before.record.columns for before in reversed(good) if before.record.columns), None
    )
    place, ordered = name_place(project, record.span), _is_ordered(project, record.span)
    features, parts, baselines = _with_date_parts(project, span, good)
    columns = check_columns(place, record.columns, schema, previous, ordered, severities.columns)
    reported = {check.subject for check in columns if check.verdict == "failed"}
    compared = {**span.distributions, **parts}
    drift = check_drift(features, compared, baselines, drift_rules(project.settings))
    earlier = [before.record.labels for before in good]
    return [
        *record.checks,
        *columns,
        *check_schema(span.summary, schema, severities.anomalies, reported),
        *check_line_breaks(training_features(schema), span.distributions),
        *(check for check in drift if not is_part(check.subject)),
        *checks_of_dates([check for check in drift if is_part(check.subject)]),
        *check_classes(record.labels, earlier, project.settings.label, severities.label_drift),
        *check_skew(project, span.distributions, served),
    ]


def _check_landing(project: Project, span: Measured, repeated: Check) -> list[Check]:
    """Checks what a span that can be read is named by, and whether it landed before."""
    if not span.record.readable:
        return []
    return [repeated, *check_date(span.name, datetime.now(UTC), project.settings.checks.future)]


def _unusable(project: Project, span: Measured, sizes: Mapping[str, int]) -> list[Check]:
    """Gives the failed checks for which a span cannot be trained on, whatever a person says."""
    record = span.record
    if not record.readable:
        return [check for check in record.checks if check.kind == "readable"]
    if not any(record.rows.values()):
        return []
    return check_dense(name_place(project, record.span), sizes, see_features(span.summary))


def _recount(verdict: SpanValidation, counted: Measured | None) -> SpanValidation:
    """Gives a verdict with the rows that the span itself counts."""
    if counted is None:
        return verdict
    record = counted.record
    changes = {"rows": record.rows, "labels": record.labels, "set_aside": record.set_aside}
    return verdict.model_copy(update=changes)


def _with_date_parts(
    project: Project, span: Measured, good: Sequence[Measured]
) -> tuple[list[Feature], dict[str, Distribution], list[Baseline]]:
    """Gives the features to compare, the parts of the span's dates, and what came before.

    A date with parts is compared by these, and is no feature to compare itself.
    """
    features = training_features(project.schema)
    baselines = make_baselines([before.distributions for before in good])
    dates = [
        feature
        for feature in features
        if feature.name != project.settings.data.key
        and (values := span.distributions.get(feature.name)) is not None
        and is_date(feature, values)
    ]
    if not dates or not good:
        return features, {}, baselines
    parts = _parts_of(span, dates)
    earlier = [_parts_of(before, dates) for before in good]
    sides = [earlier[-1], merge_parts(earlier)]
    compared = {name: part for name, part in parts.items() if name in sides[1]}
    apart = {name.partition("\0")[0] for name in compared}
    return (
        [feature for feature in features if feature.name not in apart]
        + features_of_parts(compared),
        compared,
        [
            replace(baseline, distributions={**baseline.distributions, **side})
            for baseline, side in zip(baselines, sides, strict=False)
        ],
    )


def _parts_of(span: Measured, dates: Sequence[Feature]) -> dict[str, Distribution]:
    return {
        name: part
        for feature in dates
        if (values := span.distributions.get(feature.name)) is not None
        for name, part in date_parts(feature, values, span.name).items()
    }


def _is_ordered(project: Project, span: Span) -> bool:
    """Tells whether the order of a span's columns carries meaning: only in CSV it does."""
    data = project.settings.data
    return data.table is None and format_of(span.uri, data.format) == "csv"


def _judge(span: Measured, new: bool, released: bool, checks: list[Check]) -> SpanValidation:
    record = span.record
    return SpanValidation(
        span=record.span,
        new=new,
        rows=record.rows,
        labels=record.labels,
        checks=checks,
        set_aside=record.set_aside,
        released=released,
        rows_digest=span.rows_digest if new else None,
    )


def _reason(span: SpanValidation) -> str:
    first = _first(span)
    subject = "" if first.kind == "readable" else f"{first.subject}: "
    more = f" (and {len(span.failures) - 1} more)" if len(span.failures) > 1 else ""
    return f"span {span.span.name} was refused: {subject}{first.message}{more}"


def _first(span: SpanValidation) -> Check:
    """Finds the most telling failure of a quarantined span."""
    return min(span.failures, key=lambda check: _TELLING.index(check.kind))


def _left_out_reasons(spans: Sequence[SpanValidation]) -> list[str]:
    """Gives a reason for spans that were accepted once and that the schema of today leaves out."""
    left_out = [span for span in spans if span.unusable and not span.new]
    if not left_out:
        return []
    first, *more = left_out
    names = first.span.name + (f" to {more[-1].span.name} ({len(left_out)} spans)" if more else "")
    check = _first(first)
    return [f"left out of the window: {names}: {check.subject}: {check.message}"]


def _stopping(stops: Sequence[SpanValidation]) -> str:
    kinds = {check.kind for span in stops for check in span.failures if check.severity == "stop"}
    return " and ".join(kind.replace("_", " ") for kind in _TELLING if kind in kinds)
