"""Decisions of the search that need nothing but records: whether, for how long, what was best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from perennial.training.hyperparameters import age_in_days
from schemas.project import TuneSettings
from schemas.records import Hyperparameters, Trial, Tuned, Validation

_DRIFT = ("drift", "label_drift")


def why_search(tuned: Tuned | None, space: str, validation: Validation, reason: str) -> str | None:
    """Says why there must be a search, as the end of "searched because ...".

    None when the earlier one is still good.

    Args:
        tuned: The earlier search, if it may still be used.
        space: Digest of the search space now.
        validation: Of this run's spans.
        reason: Why there is no earlier search that may be used.
    """
    if tuned is None:
        return reason or "there was no search before"
    if tuned.space != space:
        return f"the model, its tasks or what is searched changed since {tuned.run}"
    drifted = drifted_features(validation)
    return f"{' and '.join(drifted)} drifted" if drifted else None


def drifted_features(validation: Validation) -> list[str]:
    """Lists features and labels, each with the span, that drifted in a new span that is trained on.

    A span in quarantine is not trained on: its drift does not count before a person releases it.
    """
    return [
        f"{check.subject} (span {span.span.name})"
        for span in validation.spans
        if span.new and not span.quarantined
        for check in span.checks
        if check.kind in _DRIFT and check.verdict == "failed"
    ]


def describe_reuse(tuned: Tuned, now: datetime) -> str:
    """Says where reused hyperparameters come from, as a sentence without its full stop."""
    days = age_in_days(tuned, now)
    age = f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
    return f"the search of {tuned.run} was {age} ago, and nothing drifted since"


def describe_search(trials: Sequence[Trial], why: str) -> str:
    """Says why there was a search and what it found, as a sentence without its full stop.

    The first trial is the one with the settings' own values.
    """
    first, best = trials[0], ranked(trials)[0]
    failed = sum(1 for trial in trials if trial.loss is None)
    of = f"{len(trials)} trials" + (f" ({failed} failed)" if failed else "")
    reached = f"with an eval loss of {best.loss:.4g}"
    if best.number != first.number:
        beside = "failed" if first.loss is None else f"had {first.loss:.4g}"
        outcome = f"of {of} number {best.number} is best, {reached}; the settings' own {beside}"
    elif len(trials) == 1:
        outcome = f"the only trial had the settings' own, {reached}"
    else:
        outcome = f"none of {of} was better than the settings' own, {reached}"
    return f"{why}; {outcome}"


def wants_more(trials: Sequence[Trial], tune: TuneSettings) -> bool:
    """Tells whether another trial may begin. The first always may, so that there is a result."""
    if not trials:
        return True
    spent = sum(trial.seconds for trial in trials)
    in_time = tune.minutes is None or spent < tune.minutes * 60
    return in_time and (tune.trials is None or len(trials) < tune.trials)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Sorts the trials that ended with a loss, the lowest first; of equal ones the earlier."""
    return sorted(
        (trial for trial in trials if trial.loss is not None),
        key=lambda trial: (trial.loss, trial.number),
    )


def distinct(configurations: Sequence[Hyperparameters]) -> list[Hyperparameters]:
    """Gives each configuration once, in the order of the first time."""
    result: list[Hyperparameters] = []
    for configuration in configurations:
        if configuration not in result:
            result.append(configuration)
    return result


def commonest_message(trials: Sequence[Trial]) -> str:
    """Gives the message that most of the failed trials ended with."""
    messages = Counter(trial.message or "no reason" for trial in trials if trial.loss is None)
    return messages.most_common(1)[0][0]
