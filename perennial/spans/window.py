"""Decides which version of which span a run trains on: versions, states and the window. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from perennial.errors import DataError
from perennial.ledger.events import SpanVerdict, Verdict
from perennial.spans.names import LandedSpan, span_order
from schemas.records import Span

_MOST_OUTSIDE = 1000

Judgements = Mapping[str, Sequence[SpanVerdict]]
State = Verdict | Literal["new"]
Work = Literal["train", "nothing_new"]


class Window(NamedTuple):
    """Spans of a window, oldest first; which are to be judged, and which a person released."""

    spans: list[Span]
    new: list[str]
    released: list[str]


def number_versions(landed: Sequence[LandedSpan], judged: Judgements) -> list[Span]:
    """Gives each landed span its version.

    It is the one that its location names; else 1, or one more than the newest version of other
    bytes that was judged.

    Raises:
        DataError: A judged version that its location names holds other bytes now.
    """
    spans = []
    originals = _originals(landed, judged)
    for landing in landed:
        known = [verdict.judged.span for verdict in judged.get(landing.name, [])]
        newest = max((span.version for span in known), default=0)
        version = landing.version
        if version is None:
            version = next(
                (span.version for span in known if span.fingerprint == landing.fingerprint),
                newest + 1,
            )
        elif any(
            span.version == version and span.fingerprint != landing.fingerprint for span in known
        ):
            raise _changed_in_place(landing, newest + 1)
        original = originals[landing.fingerprint]
        spans.append(
            Span(
                name=landing.name,
                version=version,
                uri=landing.uri,
                fingerprint=landing.fingerprint,
                same_as=original if original != landing.name else None,
            )
        )
    return spans


def _originals(landed: Sequence[LandedSpan], judged: Judgements) -> dict[str, str]:
    """Gives for each fingerprint the name of the span that came first with these bytes.

    That is the one that was trained on first, else the oldest.
    """
    first: dict[str, tuple[float, str]] = {}
    for landing in landed:
        trainings = [
            event.number
            for event in judged.get(landing.name, [])
            if event.verdict == "accepted" and event.judged.span.fingerprint == landing.fingerprint
        ]
        came = (min(trainings, default=math.inf), landing.name)
        if landing.fingerprint not in first or came[0] < first[landing.fingerprint][0]:
            first[landing.fingerprint] = came
    return {fingerprint: name for fingerprint, (_, name) in first.items()}


def state_of(span: Span, judged: Judgements) -> State:
    """Gives the state of a span version: the newest verdict on these bytes of this span.

    A person's rejection is final: a run that was training on the span meanwhile does not undo it.
    """
    verdicts = [
        event.verdict
        for event in judged.get(span.name, [])
        if event.judged.span.fingerprint == span.fingerprint
    ]
    if not verdicts:
        return "new"
    return "rejected" if "rejected" in verdicts else verdicts[-1]


def choose_window(spans: Sequence[Span], judged: Judgements, size: int) -> Window:
    """Chooses the newest `size` spans, each in its newest version that may be trained on.

    A quarantined or rejected version is passed over, so that an older one takes its place if it
    still lies there; the span comes back when it is released, reopened or lands again.
    """
    usable: dict[str, Span] = {}
    for span in sorted(spans, key=lambda span: (span_order(span.name), span.version)):
        if state_of(span, judged) not in ("quarantined", "rejected"):
            usable[span.name] = span
    window = list(usable.values())[-size:]
    states = {span.name: state_of(span, judged) for span in window}
    return Window(
        window,
        new=[name for name, state in states.items() if state in ("new", "released", "reopened")],
        released=[name for name, state in states.items() if state == "released"],
    )


def rows_outside(judged: Judgements, window: Sequence[Span]) -> dict[str, str]:
    """Gives the rows that were trained on and are not in the window: digest -> name of the span.

    The newest thousand spans are enough, and few enough to be handed to every run.
    """
    inside = {(span.name, span.fingerprint) for span in window}
    known = sorted(
        (event.number, event.judged.rows_digest, name)
        for name, verdicts in judged.items()
        for event in verdicts
        if event.verdict == "accepted"
        and event.judged.rows_digest is not None
        and (name, event.judged.span.fingerprint) not in inside
    )
    # The first span with these rows is the original.
    return {digest: name for _, digest, name in reversed(known[-_MOST_OUTSIDE:])}


def decide_work(window: Sequence[Span], new: Sequence[str], asked: bool) -> Work:
    """Decides whether a run has anything to do, for `perennial run` and for the pipeline.

    Args:
        window: The spans that the run could train on.
        new: The names of those that no run has trained on yet.
        asked: Whether a person or a repetition asks for training without new data.
    """
    return "train" if new or (asked and window) else "nothing_new"


def _changed_in_place(landing: LandedSpan, free: int) -> DataError:
    return DataError(
        landing.uri,
        f"must not change once version {landing.version} of span {landing.name} was judged",
        "other bytes",
        f"Put the judged file back, and land the new bytes as the next version ({free}).",
    )
