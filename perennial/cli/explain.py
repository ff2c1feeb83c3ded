"""`perennial explain`: a version's whole story, from the spans to how long it served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import typer

from perennial.cli.formats import plain_console, print_lines, when
from perennial.cli.history import describe_period
from perennial.project import Project
from perennial.registry.version_history import SpanStory, VersionStory, read_story
from perennial.registry.versions import Registry
from perennial.tasks import metric_words
from schemas.records import CANDIDATE, OVERALL, Criterion, Decision, Evaluation, SliceMetrics

_SHORT = 12
_TOLD_APART = ("features", "instance")


def tell_story(project: Project, version: str, as_json: bool) -> None:
    """Prints a version's story.

    Raises:
        RegistryError: There is no such version.
    """
    story = read_story(project, Registry(project), version)
    if as_json:
        typer.echo(json.dumps(to_json(story), indent=2))
    else:
        print_lines(plain_console(), describe(story))


def to_json(story: VersionStory) -> dict[str, Any]:
    """The story for programs."""
    records = {
        name: record.model_dump(mode="json") if record else None
        for name, record in (
            ("selection", story.selection),
            ("ended", story.ended),
            ("evaluation", story.evaluation),
            ("decision", story.decision),
            ("probing", story.probing),
        )
    }
    return {
        **story.version.model_dump(mode="json"),
        "run": story.run,
        "lineage": story.lineage,
        "started": story.started,
        "registered": story.registered,
        "spans": [_span_json(span) for span in story.spans],
        "parameters": story.logged.parameters,
        "metrics": story.logged.metrics,
        **records,
        "deployments": [asdict(period) for period in story.periods],
        "unknown": story.unknown,
    }


def describe(story: VersionStory) -> Iterator[str]:
    """The story in lines; those that begin at the margin are headings."""
    now = " and serves now" if any(period.until is None for period in story.periods) else ""
    yield f"version {story.version.version} of {story.version.name}{now}"
    yield f"  digest {story.version.digest}"
    yield "spans"
    for span in story.spans:
        yield f"  {describe_span(span)}"
    report = story.ended.report if story.ended else None
    yield f"  checks that only warned {f'stand in {report}' if report else 'are not known'}"
    yield "run"
    yield from (f"  {line}" for line in _run(story))
    yield "training"
    yield from (f"  {line}" for line in _training(story))
    yield "evaluation"
    yield from (f"  {line}" for line in _evaluation(story.evaluation))
    yield "decision"
    yield from (f"  {line}" for line in describe_decision(story.decision))
    yield "probing"
    yield from (f"  {line}" for line in _probing(story))
    yield "serving"
    yield from (f"  {line}" for line in _serving(story))
    if story.unknown:
        yield "not known"
        yield from (f"  {line}" for line in story.unknown)


def describe_span(story: SpanStory) -> str:
    """A span in one line: name, version, fingerprint, rows, and what was said of it by whom."""
    span = story.span
    said = [
        f"{verdict.verdict} {when(verdict.at)} by {verdict.judged.by or f'run {verdict.run}'}"
        + (f" ({'; '.join(verdict.judged.reasons)})" if verdict.judged.reasons else "")
        for verdict in story.verdicts
    ]
    rows = "rows not known" if story.rows is None else f"{story.rows} rows"
    return f"{span.name} version {span.version}  {span.fingerprint[:_SHORT]}  {rows}  {', '.join(said) or 'not judged'}"


def describe_decision(decision: Decision | None) -> Iterator[str]:
    """The gate's decision with the verdict of every criterion."""
    if decision is None:
        yield "not known"
        return
    yield f"{'promote' if decision.promote else 'keep the champion'}: {'; '.join(decision.reasons)}"
    for criterion in decision.criteria:
        yield f"{_verdict(criterion)}: {criterion.name}: {criterion.explanation}"
    yield from (f"not compared: {line}" for line in decision.not_compared)


def metrics_of(row: SliceMetrics) -> str:
    """The metrics of a model on a slice."""
    return ", ".join(f"{metric_words(metric)} {value:.4f}" for metric, value in row.values.items())


def _verdict(criterion: Criterion) -> str:
    if not criterion.compared:
        return "not compared"
    if criterion.passed:
        return "passed"
    return "failed" if criterion.blocking else "warning"


def _run(story: VersionStory) -> Iterator[str]:
    yield f"run {story.run or 'not known'}, started {when(story.started) if story.started else 'at a time not known'}"
    attempt = story.lineage.get("attempt")
    commit = story.lineage.get("git_commit", "not known")
    yield f"commit {commit}, attempt {int(attempt) + 1 if attempt else 'not known'}"
    if story.selection and story.selection.resumes:
        yield f"went on with run {story.selection.resumes}, which was cut short"
    if story.ended is not None:
        yield f"ended {story.ended.outcome}; report {story.ended.report or 'none'}"
    else:
        yield "has not ended, or was cut short"


def _training(story: VersionStory) -> Iterator[str]:
    known = story.logged.parameters
    if not known:
        yield "not known"
        return
    yield f"instance {known.get('instance', 'not known')}, features {known.get('features', 'not known')}"
    for name in sorted(known.keys() - set(_TOLD_APART)):
        yield f"{name} {known[name]}"


def _evaluation(evaluation: Evaluation | None) -> Iterator[str]:
    if evaluation is None:
        yield "not known"
        return
    against = f"champion version {evaluation.champion.version}" if evaluation.champion else "no champion"
    yield f"{evaluation.examples} test examples, against {against}"
    overall = [row for row in evaluation.slices if row.slice == OVERALL or row.view]
    for row in overall:
        task = f" {row.task}" if len(evaluation.tasks) > 1 else ""
        yield f"{row.model}{task}{'' if row.slice == OVERALL else f' on {row.slice}'}: {metrics_of(row)}"
    slices = {row.slice for row in evaluation.slices} - {row.slice for row in overall}
    yield f"{len(slices)} slice{'s' * (len(slices) != 1)}" + (f", {_losing(evaluation)}" if slices else "")
    yield from (f"not compared: {line}" for line in evaluation.not_compared)


def _losing(evaluation: Evaluation) -> str:
    """The slice that loses most against the champion."""
    found = [d for d in evaluation.differences if d.model == CANDIDATE and d.slice != OVERALL and not d.view]
    worst = min(found, key=lambda difference: difference.value, default=None)
    if worst is None:
        return "none compared with a champion"
    return (
        f"the least gain on {worst.slice}: {metric_words(worst.metric)} {worst.value:+.4f} ({worst.examples} examples)"
    )


def _probing(story: VersionStory) -> Iterator[str]:
    probing = story.probing
    if probing is None:
        yield "not known" if story.probed else "not asked for (evaluate.covariates, evaluate.explain)"
        return
    flagged = sorted({probe.feature for probe in probing.covariates if probe.flagged})
    yield f"probes for hidden covariates: {len(probing.covariates)}, flagged: {', '.join(flagged) or 'none'}"
    for each in sorted(probing.importances, key=lambda each: -each.loss)[:5]:
        yield f"without {each.feature}: {metric_words(probing.metric)} loses {each.loss:.4f}"
    yield from (f"not probed: {line}" for line in probing.not_probed)


def _serving(story: VersionStory) -> Iterator[str]:
    yield f"registered {when(story.registered) if story.registered else 'at a time not known'}"
    pushed = any(period.action == "push" for period in story.periods)
    yield "serving check passed: a push needs it" if pushed else "serving check: none is recorded, as no run pushed it"
    if not story.periods:
        yield "never deployed"
    yield from (describe_period(period) for period in story.periods)


def _span_json(story: SpanStory) -> dict[str, Any]:
    verdicts = [
        {"at": said.at, "verdict": said.verdict, "run": said.run, **said.judged.model_dump(mode="json")}
        for said in story.verdicts
    ]
    return {**story.span.model_dump(mode="json"), "rows": story.rows, "verdicts": verdicts}
