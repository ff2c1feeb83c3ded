"""The A/B decision on simulated truth, looked at after every label.

How often a challenger that is not better is promoted, and how many labels it takes until a harmful
one is taken back and a better one promoted, beside a test of a fixed size and the same power, and
beside reading that test again and again.

The looks are those of the product: the capital of its confidence sequence after each label; where
it first decides, `decide` itself must decide with the same answers, and wait with one fewer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from _figures import Figure, conclude, print_table
from scipy import stats

from perennial.production.ab_test import (
    Answers,
    Evidence,
    PairedAnswers,
    compare_paired,
    compare_split,
    decide,
    paired_sample,
    quality_errors,
    split_sample,
)
from perennial.production.confidence_sequence import Sample, log_capital
from schemas.project import ABSettings
from schemas.records import ABAction, ABComparison

Array = np.ndarray[Any, np.dtype[Any]]

SETTINGS = ABSettings()
ERRORS = quality_errors(SETTINGS)
CHAMPION = 0.85
POWER = 0.8
LABELS = 16_000
EQUAL_RUNS, RUNS, CHECKED = 1000, 300, 5
# Returning users: so many labels of so many users, looked at after every so many.
USERS, RETURNS, EVERY, RETURN_RUNS = 400, 6, 20, 200
HARDNESS = 2.0  # how much the examples differ in how hard they are, as in judgement.py
Row = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Decided:
    """Labels at the decision of each run, float [runs]; infinite where there was none."""

    promoted: Array
    taken_back: Array


def main() -> int:
    """Simulates every truth and prints the table."""
    began = time.monotonic()
    figures: list[Figure] = []
    rows: list[Row] = []
    for share in (0.5, 0.2):
        decided = run_split(0.0, share, EQUAL_RUNS)
        wrong, back = rate(decided.promoted), rate(decided.taken_back)
        rows.append(
            (
                f"as good, {share:.0%} of the traffic",
                f"promoted {wrong:.1%}, taken back {back:.1%}",
                "5% at most, each",
                "–",
                "–",
            )
        )
        figures += [
            Figure(f"as good at {share:.0%}, promoted", 100 * wrong, at_most=5, unit="%"),
            Figure(f"as good at {share:.0%}, taken back", 100 * back, at_most=5, unit="%"),
        ]
    wrong, back = run_returning()
    rows.append(
        (
            f"as good, each user labelled {RETURNS} times",
            f"promoted {wrong:.1%}, taken back {back:.1%}",
            "5% at most, each",
            "–",
            "–",
        )
    )
    figures.append(Figure("as good, users return, promoted", 100 * wrong, at_most=5, unit="%"))
    peeked = peek_naively()
    rows.append(
        ("as good, a t-test read after every label", f"promoted {peeked:.1%}", "–", "–", "–")
    )
    figures.append(
        Figure("as good, a t-test read after every label, promoted", 100 * peeked, unit="%")
    )
    for name, gain, share, target in (
        ("5 points worse", -0.05, 0.5, 3500),
        ("5 points worse", -0.05, 0.2, 5500),
        ("3 points better", 0.03, 0.5, 7000),
        ("3 points better", 0.03, 0.2, 11000),
    ):
        decided = run_split(gain, share, RUNS)
        labels = decided.promoted if gain > 0 else decided.taken_back
        fixed = fixed_size(gain, share, ERRORS.low if gain > 0 else ERRORS.high)
        add_labels(rows, figures, f"{name}, {share:.0%} of the traffic", labels, fixed, target)
    shadowed = run_shadow(0.03)
    add_labels(rows, figures, "3 points better, as a shadow", shadowed.promoted, None, 3000)
    print_table(("simulated truth", "decided", "target", "labels: median; 80%", "fixed size"), rows)
    return conclude("ab", figures, began)


def add_labels(
    rows: list[Row], figures: list[Figure], name: str, labels: Array, fixed: int | None, target: int
) -> None:
    """Adds a row on the labels until the right decision, and its figures."""
    most = float(np.quantile(labels, POWER, method="higher"))
    median = float(np.quantile(labels, 0.5, method="higher"))
    rows.append(
        (
            name,
            f"rightly {rate(labels):.1%}",
            f"80% within {target:,} labels",
            f"{median:,.0f}; {most:,.0f}",
            "–" if fixed is None else f"{fixed:,}",
        )
    )
    figures.append(Figure(f"{name}, 80% decided within", most, at_most=target, unit=" labels"))
    if fixed is not None:
        figures.append(Figure(f"{name}, median beside the fixed size", median / fixed))


def run_split(gain: float, share: float, runs: int) -> Decided:
    """Simulates tests that share the traffic."""

    def compare(answers: Answers) -> ABComparison:
        return compare_split("accuracy", answers, 1 - CHAMPION, ERRORS)

    rng = np.random.default_rng(1)
    decided = []
    for number in range(runs):
        answers = draw(rng, gain, share)
        units = np.minimum(np.cumsum(answers.challenger), np.cumsum(~answers.challenger))
        when = first_looks(split_sample(answers, 1 - CHAMPION), units)
        if number < CHECKED:
            confirm(when, lambda count, answers=answers: compare(first(answers, count)))
        decided.append(when)
    return Decided(*np.array(decided).T)


def run_shadow(gain: float) -> Decided:
    """Simulates shadows: what makes an example hard, makes it hard for both versions."""
    rng = np.random.default_rng(2)
    decided = []
    for number in range(RUNS):
        hardness = rng.random(LABELS // 2)
        losses = [
            1.0 - (rng.random(len(hardness)) < chance_of_right(accuracy, hardness))
            for accuracy in (CHAMPION, CHAMPION + gain)
        ]
        answers = PairedAnswers(np.arange(len(hardness)), *losses, np.ones(len(hardness)))
        when = first_looks(paired_sample(answers), np.arange(1, len(hardness) + 1))
        if number < CHECKED:
            confirm(
                when,
                lambda count, answers=answers: compare_paired(
                    "accuracy",
                    PairedAnswers(
                        answers.units[:count],
                        answers.champion[:count],
                        answers.challenger[:count],
                        answers.chances[:count],
                    ),
                    ERRORS,
                ),
            )
        decided.append(when)
    return Decided(*np.array(decided).T)


def run_returning() -> tuple[float, float]:
    """Gives the shares promoted and taken back of equal versions whose users come again.

    A user's answers are mostly all right or all wrong, and each visit changes the user's mean.
    """
    rng = np.random.default_rng(3)
    promoted = taken_back = 0
    for _ in range(RETURN_RUNS):
        # A beta distribution: users differ in how often the models are right about them.
        liking = rng.beta(CHAMPION * HARDNESS, (1 - CHAMPION) * HARDNESS, USERS)
        visits = rng.permutation(np.repeat(np.arange(USERS), RETURNS))
        arms = (rng.random(USERS) < 0.5)[visits]
        losses = (rng.random(len(visits)) >= liking[visits]).astype(float)
        rows = len(visits)
        answers = Answers(visits, arms, losses, np.full(rows, 0.5), np.ones(rows))
        looks = [end_of(first(answers, count)) for count in range(EVERY, rows + 1, EVERY)]
        promoted += any(up for up, _ in looks)
        taken_back += any(down for _, down in looks)
    return promoted / RETURN_RUNS, taken_back / RETURN_RUNS


def end_of(answers: Answers) -> tuple[bool, bool]:
    """Tells whether these answers say better, and whether they say worse."""
    sample = split_sample(answers, 1 - CHAMPION)
    up = log_capital(sample, SETTINGS.margin)[-1] >= -np.log(ERRORS.low)
    down = log_capital(sample.mirrored(), SETTINGS.harm)[-1] >= -np.log(ERRORS.high)
    return bool(up), bool(down)


def peek_naively() -> float:
    """Gives how often a t-test at 5%, read after every label, calls an equal one better."""
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(RUNS):
        answers = draw(rng, 0.0, 0.5)
        arms = (answers.challenger, ~answers.challenger)
        counts = [np.cumsum(arm) for arm in arms]
        means = [
            np.cumsum(answers.losses * arm) / np.maximum(n, 1)
            for arm, n in zip(arms, counts, strict=True)
        ]
        errors = sum(m * (1 - m) / np.maximum(n, 1) for m, n in zip(means, counts, strict=True))
        z = (means[1] - means[0]) / np.sqrt(np.maximum(errors, 1e-12))
        enough = np.minimum(*counts) >= SETTINGS.least_units
        wrong += bool((z[enough] > stats.norm.ppf(SETTINGS.confidence)).any())
    return wrong / RUNS


def draw(rng: np.random.Generator, gain: float, share: float) -> Answers:
    """Draws labelled answers to as many users."""
    challenger = rng.random(LABELS) < share
    right = rng.random(LABELS) < np.where(challenger, CHAMPION + gain, CHAMPION)
    ones = np.ones(LABELS)
    return Answers(np.arange(LABELS), challenger, 1.0 - right, share * ones, ones)


def first(answers: Answers, count: int) -> Answers:
    """Takes the first answers."""
    columns = (answers.units, answers.challenger, answers.losses, answers.shares, answers.chances)
    return Answers(*(column[:count] for column in columns))


def first_looks(sample: Sample, units: Array) -> tuple[float, float]:
    """Gives the labels after which a test is promoted, and those after which it is taken back.

    Whichever comes first ends it. `units` are those of the version with fewer, after each label.
    """
    up = log_capital(sample, SETTINGS.margin) >= -np.log(ERRORS.low)
    up &= units >= SETTINGS.least_units
    down = log_capital(sample.mirrored(), SETTINGS.harm) >= -np.log(ERRORS.high)
    promoted, taken_back = (float(x.argmax() + 1) if x.any() else np.inf for x in (up, down))
    if promoted < taken_back:
        return promoted, np.inf
    return np.inf, taken_back


def confirm(when: tuple[float, float], compare: Callable[[int], ABComparison]) -> None:
    """Checks that the product's decision is the same, and that it waited one label before."""
    for labels, action in zip(when, ("promote", "roll_back"), strict=True):
        if np.isfinite(labels):
            assert list(decisions(compare, int(labels))) == ["wait", action], (labels, action)


def decisions(compare: Callable[[int], ABComparison], labels: int) -> Iterator[ABAction]:
    """Gives the product's decision with one label fewer, and with all of them."""
    for count in (labels - 1, labels):
        yield decide(Evidence(1.0, compare(count), [], SETTINGS.max_days), SETTINGS).action


def fixed_size(gain: float, share: float, error: float) -> int:
    """Gives the labels of a one-sided test that is read once, with the same error and power."""
    challenger = CHAMPION + gain
    variance = challenger * (1 - challenger) / share + CHAMPION * (1 - CHAMPION) / (1 - share)
    normal = stats.norm.ppf(1 - error) + stats.norm.ppf(POWER)
    return int(np.ceil(normal**2 * variance / gain**2))


def chance_of_right(accuracy: float, hardness: Array) -> Array:
    """Gives the chance of being right about each example, whose mean is the accuracy."""
    chance: Array = stats.beta.ppf(hardness, accuracy * HARDNESS, (1 - accuracy) * HARDNESS)
    return chance


def rate(labels: Array) -> float:
    """Gives the share of the runs that decided."""
    return float(np.isfinite(labels).mean())


if __name__ == "__main__":
    sys.exit(main())
