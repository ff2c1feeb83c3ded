"""Words the result of a run: the headline, and the stops on the way to a deployment."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from perennial.report.data.rows import span_rows
from perennial.report.decision.rows import why_failed
from perennial.report.facts import RunFacts
from perennial.report.probes.rows import probed_in_words
from perennial.training.stages import OPTIONAL_STEPS

State = Literal["done", "stopped", "broke_off", "not_reached"]
LONGEST_QUOTE = 140  # characters of a reason that still make a headline
# The stops of a run, in order: anchor on the page, name, the steps that lead to it, and what a page
# without it says nothing about.
STOPS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("landed", "Data selection", ("select_spans",), "which data landed"),
    (
        "checked",
        "Checks",
        ("prepare_span", "validate_data"),
        "whether the data was sound",
    ),
    ("transformed", "Features", ("analyse_features", "transform_features"), "the features"),
    ("pretrained", "Pretraining", ("pretrain_learner",), "pretraining"),
    ("stabilised", "Weight draws", ("stabilise_weights",), "which weights go on"),
    ("tuned", "Tuning", ("tune_model",), "which hyperparameters are used"),
    ("designs", "Design spaces", ("compare_designs",), "the design spaces"),
    (
        "compared",
        "Training",
        ("train_model", "evaluate_model"),
        "a candidate and how it does beside the champion",
    ),
    ("probed", "Probes", ("probe_model",), "what the candidate's answers rest on"),
    ("decided", "Decision", ("decide_promotion",), "a decision of the gate"),
    ("registered", "Registration", ("register_model",), "a version in the registry"),
    (
        "served",
        "Serving check",
        ("validate_serving",),
        "whether the real server answers as evaluated",
    ),
    ("deployed", "Deployment", ("push_model",), "a deployment"),
)


@dataclass(frozen=True)
class Stop:
    """One stop of the run, and a note of what came of it.

    The run ended where it `stopped` or `broke_off`.
    A stop that is not `described` has no section on the page, which says nothing about its
    `subject`.
    """

    anchor: str
    name: str
    subject: str
    state: State
    note: str
    described: bool


def verdict_sentence(facts: RunFacts) -> str:
    """Says in one plain sentence what the run came to."""
    holder = facts.champion_after
    served = f"champion version {holder} keeps serving" if holder else "no version serves yet"
    if facts.outcome == "promoted":
        return _promotion(facts, served)
    if facts.outcome == "kept_champion":
        before = facts.champion_before
        kept = f"Champion version {before} stays" if before else "There is still no champion"
        return f"{kept}: {_why_kept(facts)}."
    if facts.outcome == "data_rejected":
        return f"The data {_refused_spans(facts)} was refused; {served}."
    if facts.outcome == "nothing_new":
        return f"No new data has landed; {served}."
    if facts.serving_check and not facts.serving_check.passed:
        return f"The candidate failed the serving check; {served}."
    return f"The run failed{f' in {facts.failed_step}' if facts.failed_step else ''}; {served}."


def list_stops(facts: RunFacts) -> list[Stop]:
    """Lists the stops of the run in order, and which of them ended it before a deployment."""
    ended = _end(facts)
    anchors = [anchor for anchor, *_ in STOPS]
    before_end = anchors[: anchors.index(ended)] if ended and facts.outcome == "failed" else []
    stops = []
    for anchor, name, steps, subject in STOPS:
        note = _NOTES[anchor](facts) if anchor in _NOTES else None
        if note or anchor == ended or (_has_section(anchor, facts) and _in_pipeline(steps, facts)):
            stop = Stop(anchor, name, subject, *_state(note, anchor == ended, anchor in before_end))
            stops.append(stop)
    return stops


def is_quoted(facts: RunFacts) -> bool:
    """Tells whether the headline itself gives the one reason there is."""
    if facts.outcome != "kept_champion" or len(facts.reasons) != 1 or _in_short(facts):
        return False
    return len(facts.reasons[0]) <= LONGEST_QUOTE


def _promotion(facts: RunFacts, served: str) -> str:
    version = f"Version {facts.version.version if facts.version else facts.champion_after}"
    if not facts.deployed:
        return f"{version} passed the gate but was not deployed; {served}."
    if facts.champion_before is None:
        return f"{version} is the first champion."
    return f"{version} replaced version {facts.champion_before} as champion."


def _why_kept(facts: RunFacts) -> str:
    if is_quoted(facts):
        reason = facts.reasons[0].rstrip(".")
        return reason[:1].lower() + reason[1:] if reason[1:2].islower() else reason
    short = _in_short(facts)
    if short:
        return short
    criteria = (
        [criterion for criterion in facts.decision.criteria if criterion.blocking]
        if facts.decision
        else []
    )
    failed = [criterion for criterion in criteria if not criterion.passed]
    unknown = [criterion for criterion in failed if not criterion.compared]
    known = f", and {len(unknown)} of these could not be compared" if unknown else ""
    return f"the candidate did not pass {len(failed)} of the gate's {len(criteria)} criteria{known}"


def _in_short(facts: RunFacts) -> str | None:
    """Says why the champion stays, where one criterion alone kept it and its numbers tell."""
    criteria = facts.decision.criteria if facts.decision else []
    failed = [criterion for criterion in criteria if criterion.blocking and not criterion.passed]
    return why_failed(failed[0], facts.gate) if len(failed) == 1 else None


def _refused_spans(facts: RunFacts) -> str:
    judged = [row for row in reversed(span_rows(facts)) if row.new and row.judged]
    refused = [row.span.name for row in judged if row.fate == "quarantined"]
    names = refused or [row.span.name for row in judged]
    if len(names) > 4:
        return f"of {len(names)} spans ({names[0]} to {names[-1]})"
    word = "on" if all(re.fullmatch(r"\d{4}-\d\d-\d\d", name) for name in names) else "as"
    return f"that landed {word} {' and '.join(names)}" if names else "that landed"


def _end(facts: RunFacts) -> str | None:
    """Gives the stop where the run ended before a deployment; None where that is not known."""
    if (
        facts.outcome == "failed"
        and facts.serving_check is not None
        and not facts.serving_check.passed
    ):
        return "served"
    if facts.outcome == "failed":
        return next((anchor for anchor, _, steps, _ in STOPS if facts.failed_step in steps), None)
    return {"data_rejected": "checked", "nothing_new": "landed", "kept_champion": "decided"}.get(
        facts.outcome
    )


def _in_pipeline(steps: Sequence[str], facts: RunFacts) -> bool:
    """Tells whether the run's pipeline has these steps, as far as that is known."""
    present = (facts.selection.stages if facts.selection else None) or []
    return all(step in present for step in steps if step in OPTIONAL_STEPS)


def _has_section(anchor: str, facts: RunFacts) -> bool:
    """Tells whether the page has a section for a stop; probes without a result have none."""
    return anchor not in ("transformed", "registered") and not (
        anchor == "probed" and facts.probing
    )


def _state(note: str | None, ends: bool, before_end: bool) -> tuple[State, str, bool]:
    """Gives the state of a stop, its note, and whether the page describes it."""
    if note:
        return ("stopped" if ends else "done"), note, True
    if ends:
        return "broke_off", "not finished", False
    if (
        before_end
    ):  # steps only begin when those before them are done, whatever else is known of them
        return "done", "see the log", False
    return "not_reached", "not reached", False


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _landed(facts: RunFacts) -> str | None:
    rows = span_rows(facts)
    known = facts.selection or facts.validation
    return f"{sum(row.new for row in rows)} new, {len(rows)} in the window" if known else None


def _checked(facts: RunFacts) -> str | None:
    rows = span_rows(facts)
    counts = {
        kind: sum(row.count(kind) for row in rows)
        for kind in ("passed", "failed", "warned", "not_compared")
    }
    warned = f", {_count(counts['warned'], 'warning')}" if counts["warned"] else ""
    verdicts = f"{counts['passed']} passed, {counts['failed']} failed{warned}"
    return f"{verdicts}, {counts['not_compared']} not compared" if facts.validation else None


def _stabilised(facts: RunFacts) -> str | None:
    draws = facts.stabilisation
    if draws is None:
        return None
    return f"seed {draws.draws[draws.chosen].seed} of {_count(len(draws.draws), 'draw')}"


def _tuned(facts: RunFacts) -> str | None:
    if facts.tuning is None:
        return None
    trials = _count(len(facts.tuning.trials), "trial")
    return trials if facts.tuning.outcome == "searched" else "reused"


def _decided(facts: RunFacts) -> str | None:
    if facts.decision is None:
        return None
    warnings = len(facts.decision.warnings)
    warned = f", {_count(warnings, 'warning')}" if warnings else ""
    return ("promote" if facts.decision.promote else "keep") + warned


def _served(facts: RunFacts) -> str | None:
    return ("passed" if facts.serving_check.passed else "failed") if facts.serving_check else None


_NOTES: dict[str, Callable[[RunFacts], str | None]] = {
    "landed": _landed,
    "checked": _checked,
    "pretrained": lambda f: _count(len(f.pretraining.losses), "epoch") if f.pretraining else None,
    "stabilised": _stabilised,
    "tuned": _tuned,
    "designs": lambda f: f"{len(f.designs.spaces)} spaces" if f.designs else None,
    "compared": lambda f: _count(len(f.evaluation.trainings), "instance") if f.evaluation else None,
    "probed": lambda f: probed_in_words(f.probing) if f.probing else None,
    "decided": _decided,
    "served": _served,
    "deployed": lambda f: f"version {f.champion_after}" if f.deployed else None,
}
