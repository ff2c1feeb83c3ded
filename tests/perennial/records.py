"""Records for tests of the ledger and of what reads it."""

from __future__ import annotations

from typing import Any

from perennial.ledger.events import NewEvent
from schemas.records import Champion, Deployment, RunEnded, RunStarted, Selection, Span, SpanJudged


def span(name: str = "2026-01-01", fingerprint: str = "f1", version: int = 1) -> Span:
    return Span(name=name, version=version, uri=f"data/{name}.parquet", fingerprint=fingerprint)


def deployment(
    version: str, replaces: int | None = None, action: Any = "push", digest: str | None = None
) -> Deployment:
    digest = digest or f"digest-{version}"
    return Deployment(
        version=version, digest=digest, action=action, by="a test", why="a test", replaces=replaces
    )


def selection(
    run: str, window: list[Span] | None = None, champion: Champion | None = None, **changes: Any
) -> Selection:
    window = [span()] if window is None else window
    values = {
        "new_spans": [s.name for s in window],
        "instances": [],
        "data_digest": "d",
        "checks_digest": "c",
        "project_digest": "p",
        "schema_digest": "s",
    }
    return Selection(run=run, window=window, champion=champion, **(values | changes))


def run_started(run: str, chosen: Selection | None = None) -> NewEvent:
    return NewEvent(
        "run_started", RunStarted(selection=chosen or selection(run)), run, key=f"run-started:{run}"
    )


def run_ended(run: str, outcome: Any = "kept_champion") -> NewEvent:
    ended = RunEnded(
        outcome=outcome,
        reasons=["a reason"],
        window=[],
        new_spans=[],
        version=None,
        champion=None,
        report=None,
    )
    return NewEvent("run_ended", ended, run, key=f"run-ended:{run}")


def judged(accepted: bool, about: Span, run: str = "r") -> NewEvent:
    body = SpanJudged(span=about, rows=3, reasons=[] if accepted else ["a reason"])
    kind: Any = "span_accepted" if accepted else "span_quarantined"
    return NewEvent(kind, body, run, key=f"{kind}:{about.name}@{about.fingerprint}")
