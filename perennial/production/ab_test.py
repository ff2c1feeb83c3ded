"""The A/B decision: a pure function from what two versions answered to what follows.

It may be asked after every label. Its bounds are confidence sequences, which hold at all looks at
once (`confidence_sequence`), and it depends on the answers and labels that there are, not on when
it was asked before.

The unit is a key, or the group that it belongs to: all answers to one are one value, their mean, as
answers to the same person are right or wrong together. Every unit counts the same.

With a split, the value of an answer with loss x is

    z = (x - c) (1 - a) / (1 - p) - (x - c) a / p

where a is 1 for the challenger, p its share of the traffic at that time, and c any constant that
was chosen before. As the split is by a hash with a random salt, a is 1 with chance p whatever the
loss, so that the mean of z is the champion's loss minus the challenger's for every c and for shares
that change; a c near the champion's loss makes z vary least. Where one version answers in the
shadow of the other, the value is the difference of their losses on the same request.

Source: Horvitz and Thompson 1952 (division by the chance); Waudby-Smith, Wu, Ramdas, Karampatziakis
and Mineiro 2024, "Anytime-valid off-policy inference for contextual bandits" (betting on it, and
the constant that centres it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perennial.production.confidence_sequence import Array, Sample, sequence_bounds
from schemas.project import ABSettings
from schemas.records import ABAction, ABComparison, ABMeasure, ABVerdict

# Parts of the chance of taking back a challenger that is not worse: by labels, by each guard. Of
# slow and failed answers there are many more than of labels.
_HARM_PART, _GUARD_PART = 0.6, 0.2
# Asymptotic bounds are narrowest at this number of units, and are not read below the other.
PLANNED_UNITS = 5000
LEAST_ASYMPTOTIC_UNITS = 100
# An expected share of slow or failed answers: it makes bounds narrow, and is never relied on.
GUARD_CENTRE = 0.05


@dataclass(frozen=True)
class Answers:
    """Answers of both versions by one measure, one entry for each; those without a loss left out.

    Attributes:
        units: What each belongs to: a key or a group, any values that compare, [n].
        challenger: Whether the challenger gave it, bool [n].
        losses: What is wrong with it, float [n]: at least 0, and at most `largest`.
        shares: The challenger's part of the traffic then, between 0 and 1, float [n].
        chances: With which chance the answer is in the log, above 0, float [n].
        largest: The greatest loss that there can be; infinite: unknown.
    """

    units: Array
    challenger: Array
    losses: Array
    shares: Array
    chances: Array
    largest: float = 1.0

    def __len__(self) -> int:
        return len(self.losses)


@dataclass(frozen=True)
class PairedAnswers:
    """Answers of both versions to the same requests, one entry for each request.

    Attributes:
        units: What each belongs to, [n].
        champion: The champion's losses, float [n].
        challenger: The challenger's, float [n].
        chances: With which chance the request is in the log, float [n].
        largest: The greatest loss that there can be; infinite: unknown.
    """

    units: Array
    champion: Array
    challenger: Array
    chances: Array
    largest: float = 1.0

    def __len__(self) -> int:
        return len(self.champion)


@dataclass(frozen=True)
class Evidence:
    """All that a test knows at one moment.

    Attributes:
        days: Since it began.
        quality: By the measure that decides; None: no label has come.
        guards: Slow and failed answers.
        invalid: Why nothing can be read off it, such as a split that is not what it should be.
        max_days: Its longest duration.
        unlabelled: Why labels are missing, where that is known.
    """

    days: float
    quality: ABComparison | None
    guards: Sequence[ABComparison]
    max_days: float
    invalid: str = ""
    unlabelled: str = ""


class Errors(NamedTuple):
    """Chances that the lower bound is ever too high, and that the upper one is ever too low."""

    low: float
    high: float


def quality_errors(settings: ABSettings) -> Errors:
    """Gives the errors of the measure that decides."""
    error = 1 - settings.confidence
    return Errors(error, _HARM_PART * error)


def guard_errors(settings: ABSettings) -> Errors:
    """Gives the errors of each guard; its lower bound decides nothing."""
    error = 1 - settings.confidence
    return Errors(error, _GUARD_PART * error)


def split_sample(answers: Answers, centre: float) -> Sample:
    """Makes one value of each unit, whose mean is the challenger's gain.

    Args:
        answers: Of both versions; those at a share of 0 or 1 tell nothing and are left out.
        centre: The champion's loss, about, as it was known before the test; as a share of
            `largest`, where that is finite.
    """
    split = (answers.shares > 0) & (answers.shares < 1)
    shares, chances = answers.shares[split], answers.chances[split]
    bounded = math.isfinite(answers.largest)
    losses = answers.losses[split] / (answers.largest if bounded else 1.0)
    factors = np.where(answers.challenger[split], -1 / shares, 1 / (1 - shares))
    # The same for both versions: which of them answers is not known before.
    low = -np.maximum((1 - centre) / shares, centre / (1 - shares))
    high = np.maximum(centre / shares, (1 - centre) / (1 - shares))
    if not bounded:
        low, high = np.full_like(low, -math.inf), np.full_like(high, math.inf)
    return _by_unit(answers.units[split], (losses - centre) * factors, low, high, chances)


def paired_sample(answers: PairedAnswers) -> Sample:
    """Makes one value of each unit, the mean difference of the losses on the same requests."""
    bounded = math.isfinite(answers.largest)
    gains = (answers.champion - answers.challenger) / (answers.largest if bounded else 1.0)
    ends = np.full(len(gains), 1.0 if bounded else math.inf)
    return _by_unit(answers.units, gains, -ends, ends, answers.chances)


def compare_split(
    measure: ABMeasure, answers: Answers, centre: float, errors: Errors, allowed: float = 0.0
) -> ABComparison:
    """Compares two versions that shared the traffic."""
    challenger = answers.challenger.astype(bool)
    means = [
        _unit_means(answers.units[rows], answers.losses[rows], answers.chances[rows])
        for rows in (~challenger, challenger)
    ]
    return _compare(measure, split_sample(answers, centre), means, answers, errors, allowed)


def compare_paired(
    measure: ABMeasure, answers: PairedAnswers, errors: Errors, allowed: float = 0.0
) -> ABComparison:
    """Compares two versions that answered the same requests."""
    means = [
        _unit_means(answers.units, losses, answers.chances)
        for losses in (answers.champion, answers.challenger)
    ]
    return _compare(measure, paired_sample(answers), means, answers, errors, allowed)


def decide(evidence: Evidence, settings: ABSettings) -> ABVerdict:
    """Decides what follows for a test.

    In this order: nothing can be read off a test that is invalid; a challenger that is worse for
    certain, or slow or failing for certain, is taken back; one that is better for certain is
    promoted, unless a guard looks worse than is allowed; a test that has run for its longest
    duration ends, and the champion stays; else it waits.
    """
    quality = evidence.quality
    if evidence.invalid:
        return _verdict("invalid", [evidence.invalid], evidence)
    harmful = [guard for guard in evidence.guards if guard.breached]
    if quality is not None and quality.high < -settings.harm:
        harmful = [quality, *harmful]
    if harmful:
        return _verdict("roll_back", [f"worse: {describe(each)}" for each in harmful], evidence)
    if quality is None:
        because = f": {evidence.unlabelled}" if evidence.unlabelled else ""
        waits = [f"no label has come{because}"]
    else:
        waits = _why_not_promoted(quality, evidence.guards, settings)
        if not waits:
            return _verdict("promote", [f"better: {describe(quality)}"], evidence)
    if evidence.days >= evidence.max_days:
        ended = f"not decided after {evidence.max_days:g} days: the champion stays"
        return _verdict("expire", [ended, *waits], evidence)
    return _verdict("wait", waits, evidence)


def describe(comparison: ABComparison) -> str:
    """Describes a comparison in one line, with what it rests on."""
    words = {
        "accuracy": "accuracy",
        "brier": "Brier score",
        "absolute_error": "mean absolute error",
        "slow": "share of slow answers",
        "failed": "share of failed answers",
    }
    exact = "" if comparison.exact else " (approximate: the loss has no bound)"
    return (
        f"{words[comparison.measure]} {comparison.challenger:.4g} against "
        f"{comparison.champion:.4g} of the champion, gain {comparison.gain:+.4f}, "
        f"at least {comparison.low:+.4f}, at most {comparison.high:+.4f}{exact}, from "
        f"{comparison.challenger_units} and {comparison.champion_units} units"
    )


def _why_not_promoted(
    quality: ABComparison, guards: Sequence[ABComparison], settings: ABSettings
) -> list[str]:
    fewest = min(quality.champion_units, quality.challenger_units)
    reasons = []
    if not quality.low > settings.margin:
        reasons.append(f"may not be better by more than {settings.margin:g}: {describe(quality)}")
    if fewest < settings.least_units:
        reasons.append(f"{fewest} units of a version are labelled, {settings.least_units} needed")
    reasons += [
        f"looks worse, but not for certain: {describe(guard)}"
        for guard in guards
        if guard.gain < -guard.allowed
    ]
    return reasons


def _verdict(action: ABAction, reasons: list[str], evidence: Evidence) -> ABVerdict:
    return ABVerdict(
        action=action,
        reasons=reasons,
        days=evidence.days,
        quality=evidence.quality,
        guards=list(evidence.guards),
    )


def _compare(
    measure: ABMeasure,
    sample: Sample,
    means: Sequence[Array],
    answers: Answers | PairedAnswers,
    errors: Errors,
    allowed: float,
) -> ABComparison:
    champion, challenger = (float(each.mean()) if len(each) else math.nan for each in means)
    scale = answers.largest if sample.bounded and math.isfinite(answers.largest) else 1.0
    low, high = sequence_bounds(sample, *errors, PLANNED_UNITS)
    if not sample.bounded and min(map(len, means)) < LEAST_ASYMPTOTIC_UNITS:
        low, high = -math.inf, math.inf
    right = measure == "accuracy"
    return ABComparison(
        measure=measure,
        champion=1 - champion if right else champion,
        challenger=1 - challenger if right else challenger,
        champion_units=len(means[0]),
        challenger_units=len(means[1]),
        rows=len(answers),
        gain=champion - challenger,
        low=max(low, -1.0) * scale if sample.bounded else low,
        high=min(high, 1.0) * scale if sample.bounded else high,
        exact=sample.bounded,
        allowed=allowed,
    )


def _by_unit(units: Array, values: Array, low: Array, high: Array, chances: Array) -> Sample:
    """Makes one value of all answers of a unit.

    Answers count by 1 / chance, self-normalised within a unit (Hajek 1971); between units a unit
    weighs what its answers weigh on average, which is 1 for all where sampling is the same for all.
    """
    _, codes, counts = np.unique(units, return_inverse=True, return_counts=True)
    weights = 1 / chances
    totals = np.bincount(codes, weights, len(counts))
    lowest = np.full(len(counts), math.inf)
    highest = np.full(len(counts), -math.inf)
    np.minimum.at(lowest, codes, low)
    np.maximum.at(highest, codes, high)
    means = np.bincount(codes, weights * values, len(counts)) / totals
    return Sample(means, lowest, highest, totals / counts)


def _unit_means(units: Array, losses: Array, chances: Array) -> Array:
    _, codes = np.unique(units, return_inverse=True)
    totals = np.bincount(codes, 1 / chances)
    means: Array = np.bincount(codes, losses / chances) / totals
    return means
