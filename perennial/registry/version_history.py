"""All that ledger and registry hold of a version, for `perennial explain` and `compare`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from perennial.ledger.events import Event, Ledger, SpanVerdict, body_of
from perennial.project import Project
from perennial.registry.mlflow_runs import RunStory
from perennial.registry.serving_periods import Period, read_periods
from perennial.registry.versions import Registry
from schemas.records import (
    Decision,
    DecisionMade,
    Evaluation,
    FileRecord,
    ModelVersion,
    Probing,
    RunEnded,
    Selection,
    Span,
)

R = TypeVar("R", bound=FileRecord)


@dataclass(frozen=True)
class SpanStory:
    """A span that a version was trained on, with its verdicts, oldest first."""

    span: Span
    verdicts: list[SpanVerdict] = field(default_factory=list)

    @property
    def rows(self) -> int | None:
        """Its rows, where it was judged."""
        return self.verdicts[-1].judged.rows if self.verdicts else None


@dataclass(frozen=True)
class VersionStory:
    """All that is known of a version. What is missing is None or empty, and named in `unknown`."""

    version: ModelVersion
    lineage: dict[str, str]
    selection: Selection | None
    started: str | None
    registered: str | None
    ended: RunEnded | None
    spans: list[SpanStory]
    logged: RunStory
    evaluation: Evaluation | None
    decision: Decision | None
    probing: Probing | None
    periods: list[Period]
    unknown: list[str]

    @property
    def probed(self) -> bool:
        """Tells whether its run was to look into it, as far as that is known."""
        return _may_have_probed(self.selection)

    @property
    def run(self) -> str | None:
        """The run that registered it."""
        return self.lineage.get("run")


def read_story(project: Project, registry: Registry, number: str) -> VersionStory:
    """Gathers what is known of a version.

    Raises:
        RegistryError: There is no such version; the message names those there are.
    """
    version = registry.version(number)
    lineage = registry.lineage(number)
    ledger = Ledger(project.ledger_url)
    run = lineage.get("run")
    unknown: list[str] = []
    start = next(
        ((event, body.selection) for event, body, _ in ledger.runs() if event.run == run), None
    )
    judged = _decision_event(ledger, run)
    evaluation = _document(registry, version, Evaluation, unknown)
    kept = _document(registry, version, Decision, unknown)
    probes = _may_have_probed(start[1] if start else None)
    probing = _document(registry, version, Probing, unknown) if probes else None
    if judged is None:
        unknown.append("when it was registered: the ledger holds no decision of its run")
    if start is None:
        unknown.append(
            f"its run: the ledger holds no start of {run}"
            if run
            else "its run: none stands in the registry"
        )
    spans = list(_spans(ledger, evaluation, start[1] if start else None))
    story = VersionStory(
        version=version,
        lineage=lineage,
        selection=start[1] if start else None,
        started=start[0].at if start else None,
        registered=judged.at if judged else None,
        ended=ledger.run_end(run) if run else None,
        spans=spans,
        logged=registry.story(version) if version.mlflow_run else RunStory(),
        evaluation=evaluation,
        decision=body_of(judged, DecisionMade).decision if judged else kept,
        probing=probing,
        periods=[
            period
            for period in read_periods(project, datetime.now(UTC))
            if period.version == number
        ],
        unknown=unknown
        + [f"the verdicts on span {each.span.name}" for each in spans if not each.verdicts],
    )
    ledger.close()
    return story


def _may_have_probed(selection: Selection | None) -> bool:
    return selection is None or selection.stages is None or "probe_model" in selection.stages


def _decision_event(ledger: Ledger, run: str | None) -> Event | None:
    return next(
        (event for event in ledger.events("decision") if run is not None and event.run == run), None
    )


def _document(
    registry: Registry, version: ModelVersion, kind: type[R], unknown: list[str]
) -> R | None:
    """Reads a document of a version; what is missing, or of another form than today's, is noted."""
    text = registry.document(version, kind.FILE) if version.mlflow_run else None
    if text is None:
        unknown.append(f"{kind.FILE}: not kept with this version")
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        unknown.append(f"{kind.FILE}: of another form ({error.errors()[0]['msg']})")
        return None


def _spans(
    ledger: Ledger, evaluation: Evaluation | None, selection: Selection | None
) -> Iterator[SpanStory]:
    """Lists the spans that it was trained on, by the evaluation, or by what its run selected."""
    window = (
        evaluation.window
        if evaluation and evaluation.window
        else selection.window
        if selection
        else []
    )
    judged = ledger.judged_spans() if window else {}
    for span in window:
        verdicts = judged.get(span.name, [])
        yield SpanStory(
            span,
            [
                verdict
                for verdict in verdicts
                if verdict.judged.span.fingerprint == span.fingerprint
            ],
        )
