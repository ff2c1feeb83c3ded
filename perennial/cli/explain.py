"""`perennial explain`: a version's whole story, from the spans to how long it served."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.cli.arguments import AsJson, Folder, load_repaired
from perennial.cli.formats import describe_warnings, format_time, plain_console, print_lines
from perennial.cli.history import describe_period

if TYPE_CHECKING:
    from perennial.registry.version_history import SpanStory, VersionStory
    from schemas.records import Criterion, Decision, Evaluation, SliceMetrics

_FINGERPRINT = 12  # characters of it that are shown
_IMPORTANCES = 5  # features whose importance is shown
_HEADLINE_PARAMETERS = ("features", "instance")


def explain(
    folder: Folder,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Registry version, such as 3.")],
    as_json: AsJson = False,
) -> None:
    """Tell a version's whole story, from the spans to how long it served."""
    from perennial.registry.version_history import read_story
    from perennial.registry.versions import Registry

    project = load_repaired(folder)
    story = read_story(project, Registry(project), version)
    if as_json:
        typer.echo(json.dumps(to_json(story), indent=2))
    else:
        print_lines(plain_console(), describe(story))


def to_json(story: VersionStory) -> dict[str, Any]:
    """Gives the story as JSON values."""
    records = {
        "selection": story.selection,
        "ended": story.ended,
        "evaluation": story.evaluation,
        "decision": story.decision,
        "probing": story.probing,
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
        **{name: each.model_dump(mode="json") if each else None for name, each in records.items()},
        "deployments": [period.as_json() for period in story.periods],
        "unknown": story.unknown,
    }


def _span_json(story: SpanStory) -> dict[str, Any]:
    verdicts = [
        {
            "at": each.at,
            "verdict": each.verdict,
            "run": each.run,
            **each.judged.model_dump(mode="json"),
        }
        for each in story.verdicts
    ]
    return {**story.span.model_dump(mode="json"), "rows": story.rows, "verdicts": verdicts}


def describe(story: VersionStory) -> Iterator[str]:
    """Tells the story in lines; those that are not indented are headings."""
    now = " and serves now" if any(period.until is None for period in story.periods) else ""
    yield f"version {story.version.version} of {story.version.name}{now}"
    yield f"  digest {story.version.digest}"
    report = story.ended.report if story.ended else None
    warnings = f"stand in {report}" if report else "are not known"
    spans = [*map(describe_span, story.spans), f"checks that only warned {warnings}"]
    yield from _section("spans", spans)
    lines = [*describe_warnings(story.ended)] if story.ended else []
    if lines:
        yield from _section("warnings", lines)
    yield from _section("run", _describe_run(story))
    yield from _section("training", _describe_training(story))
    yield from _section("evaluation", _describe_evaluation(story.evaluation))
    yield from _section("decision", describe_decision(story.decision))
    yield from _section("probing", _describe_probing(story))
    yield from _section("serving", _describe_serving(story))
    if story.unknown:
        yield from _section("not known", story.unknown)


def _section(heading: str, lines: Iterable[str]) -> Iterator[str]:
    yield heading
    yield from (f"  {line}" for line in lines)


def describe_span(story: SpanStory) -> str:
    """Describes a span in one line: name, version, fingerprint, rows, and who judged it how."""
    verdicts = []
    for each in story.verdicts:
        by = each.judged.by or f"run {each.run}"
        reasons = f" ({'; '.join(each.judged.reasons)})" if each.judged.reasons else ""
        verdicts.append(f"{each.verdict} {format_time(each.at)} by {by}{reasons}")
    span = f"{story.span.name} version {story.span.version}"
    fingerprint = story.span.fingerprint[:_FINGERPRINT]
    rows = "rows not known" if story.rows is None else f"{story.rows} rows"
    return f"{span}  {fingerprint}  {rows}  {', '.join(verdicts) or 'not judged'}"


def describe_decision(decision: Decision | None) -> Iterator[str]:
    """Describes the gate's decision with the verdict of every criterion."""
    if decision is None:
        yield "not known"
        return
    verdict = "promote" if decision.promote else "keep the champion"
    yield f"{verdict}: {'; '.join(decision.reasons)}"
    for criterion in decision.criteria:
        yield f"{_verdict(criterion)}: {criterion.name}: {criterion.explanation}"
    yield from (f"not compared: {line}" for line in decision.not_compared)


def _verdict(criterion: Criterion) -> str:
    if not criterion.compared:
        return "not compared"
    if criterion.passed:
        return "passed"
    return "failed" if criterion.blocking else "warning"


def _describe_run(story: VersionStory) -> Iterator[str]:
    started = format_time(story.started) if story.started else "at a time not known"
    yield f"run {story.run or 'not known'}, started {started}"
    attempt = story.lineage.get("attempt")
    commit = story.lineage.get("git_commit", "not known")
    yield f"commit {commit}, attempt {int(attempt) + 1 if attempt else 'not known'}"
    if (package := story.lineage.get("package", "none")) != "none":
        yield f"package {package}"
    if story.selection and story.selection.resumes:
        yield f"went on with run {story.selection.resumes}, which was cut short"
    if story.ended is not None:
        yield f"ended {story.ended.outcome}; report {story.ended.report or 'none'}"
    else:
        yield "has not ended, or was cut short"


def _describe_training(story: VersionStory) -> Iterator[str]:
    parameters = story.logged.parameters
    if not parameters:
        yield "not known"
        return
    instance = parameters.get("instance", "not known")
    yield f"instance {instance}, features {parameters.get('features', 'not known')}"
    for name in sorted(parameters.keys() - set(_HEADLINE_PARAMETERS)):
        yield f"{name} {parameters[name]}"


def _describe_evaluation(evaluation: Evaluation | None) -> Iterator[str]:
    from schemas.records import OVERALL

    if evaluation is None:
        yield "not known"
        return
    against = "no champion"
    if evaluation.champion:
        against = f"champion version {evaluation.champion.version}"
    yield f"{evaluation.examples} test examples, against {against}"
    overall = [row for row in evaluation.slices if row.slice == OVERALL or row.view]
    for row in overall:
        task = f" {row.task}" if len(evaluation.tasks) > 1 else ""
        where = "" if row.slice == OVERALL else f" on {row.slice}"
        yield f"{row.model}{task}{where}: {_describe_metrics(row)}"
    slices = {row.slice for row in evaluation.slices} - {row.slice for row in overall}
    least = f", {_describe_least_gain(evaluation)}" if slices else ""
    yield f"{len(slices)} slice{'s' * (len(slices) != 1)}{least}"
    yield from (f"not compared: {line}" for line in evaluation.not_compared)


def _describe_metrics(row: SliceMetrics) -> str:
    from perennial.tasks import metric_words

    return ", ".join(
        f"{metric_words(name)} not defined ({row.undefined[name]})"
        if name in row.undefined
        else f"{metric_words(name)} {value:.4f}"
        for name, value in row.values.items()
    )


def _describe_least_gain(evaluation: Evaluation) -> str:
    """Names the slice that gains least, or loses most, against the champion."""
    from perennial.tasks import metric_words
    from schemas.records import CANDIDATE, OVERALL

    slices = [
        each
        for each in evaluation.differences
        if each.model == CANDIDATE and each.slice != OVERALL and not each.view
    ]
    least = min(slices, key=lambda difference: difference.value, default=None)
    if least is None:
        return "none compared with a champion"
    gain = f"{metric_words(least.metric)} {least.value:+.4f} ({least.examples} examples)"
    return f"the least gain on {least.slice}: {gain}"


def _describe_probing(story: VersionStory) -> Iterator[str]:
    from perennial.tasks import metric_words

    probing = story.probing
    if probing is None:
        settings = "evaluate.covariates, evaluate.explain"
        yield "not known" if story.probed else f"not asked for ({settings})"
        return
    flagged = sorted(probing.learned)
    count = len(probing.covariates)
    yield f"probes for hidden covariates: {count}, flagged: {', '.join(flagged) or 'none'}"
    unknown = [suspect.name for suspect in probing.suspects if suspect.not_compared is not None]
    if unknown:
        yield f"suspect features that could not be compared: {', '.join(unknown)}"
    if probing.leaks:
        yield f"alone give the label away: {', '.join(leak.name for leak in probing.leaks)}"
    for each in sorted(probing.importances, key=lambda each: -each.loss)[:_IMPORTANCES]:
        yield f"without {each.feature}: {metric_words(probing.metric)} loses {each.loss:.4f}"
    yield from (f"not probed: {line}" for line in probing.not_probed)


def _describe_serving(story: VersionStory) -> Iterator[str]:
    registered = format_time(story.registered) if story.registered else "at a time not known"
    yield f"registered {registered}"
    if any(period.action == "push" for period in story.periods):
        yield "serving check passed: a push needs it"
    else:
        yield "serving check: none is recorded, as no run pushed it"
    if not story.periods:
        yield "never deployed"
    yield from map(describe_period, story.periods)
