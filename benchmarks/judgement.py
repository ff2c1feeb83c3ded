"""The judge judged, on simulated truth.

How often the gate and the probes are right where it is known what is right.

Models are simulated by which examples they get right. Two models share what makes an example hard,
as a champion and a retrained candidate do; `apart` are the harder case of models whose errors have
nothing to do with each other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _figures import Figure, conclude, print_table
from _judgement_probes import flag_rates
from _judgement_serving import Errors, serving_errors
from numpy.random import Generator

from components.decide_promotion.step import decide_promotion
from perennial.evaluation.bootstrap import mean_interval, per_interval
from perennial.evaluation.comparison import Pair, Terms, compare_overall, compare_slices
from perennial.evaluation.groups import Group
from schemas.project import GateSettings
from schemas.records import CANDIDATE, OVERALL, Champion, EvaluatedTask, Evaluation, SliceMetrics

Array = np.ndarray[Any, np.dtype[Any]]

EXAMPLES, SLICES = 2000, 10
RUNS = 400
TABLES = 800  # know a share of 95% to within 0.8 points (one standard error)
CHAMPION = 0.85
GATE = GateSettings(metric="accuracy", mode="better", confidence=0.95, slice_loss=0.05)
# How much the examples differ in how hard they are: the models then disagree on 17% of them.
HARDNESS = 2.0


def main() -> int:
    """Measures every promise and prints the table."""
    began = time.monotonic()
    rows = [*gate_rows(), *interval_rows(), *probe_rows(), *serving_rows()]
    print_table(
        ("simulated truth", "what is right", "target", "measured"), [row[:4] for row in rows]
    )
    return conclude("judgement", [row[4] for row in rows], began)


Row = tuple[str, str, str, str, Figure]


def gate_rows() -> list[Row]:
    """The gate, with 2,000 test examples in ten slices."""
    equal, better = np.zeros(SLICES), np.full(SLICES, 0.03)
    one_bad = np.array([-0.15, *[0.02] * (SLICES - 1)])
    wrong = rate(equal, lambda promoted: promoted)
    right = rate(better, lambda promoted: promoted)
    apart = rate(better, lambda promoted: promoted, apart=True)
    refused = rate(one_bad, lambda promoted: not promoted)
    return [
        (
            "candidate as good as the champion",
            "kept",
            "promoted ≤ 5%",
            f"{wrong:.1%}",
            percent("equal, promoted", wrong, at_most=5),
        ),
        (
            "candidate 3 points better",
            "promoted",
            "≥ 80%",
            f"{right:.1%}",
            percent("better, promoted", right, at_least=80),
        ),
        (
            "the same, errors apart: the hardest case",
            "promoted",
            "–",
            f"{apart:.1%}",
            percent("better with errors apart, promoted", apart, at_least=0),
        ),
        (
            "one slice (10%) 15 points worse, the rest 2 better",
            "kept",
            "≥ 95%",
            f"{refused:.1%}",
            percent("bad slice, kept", refused, at_least=95),
        ),
    ]


def interval_rows() -> list[Row]:
    """Five slices of 30 to 119 examples.

    Their corrected intervals hold the truth at once, less 2 points for few.
    """
    rng, confidence, truth, held = np.random.default_rng(1), 0.95, 0.1, 0
    for _ in range(TABLES):
        slices = [
            rng.choice([-1.0, 0.0, 1.0], size, p=[0.2, 0.5, 0.3])
            for size in rng.integers(30, 120, 5)
        ]
        intervals = [mean_interval(gains, per_interval(confidence, 5)) for gains in slices]
        held += all(row.low <= truth <= row.high for row in intervals)
    share = held / TABLES
    figure = percent("five small slices, all intervals hold", share, at_least=93)
    return [("five small slices", "all intervals hold", "≥ 93%", f"{share:.1%}", figure)]


def probe_rows() -> list[Row]:
    """The probes for hidden covariates."""
    planted, innocent = flag_rates()
    return [
        (
            "planted covariate",
            "flagged",
            "≥ 95%",
            f"{planted:.1%}",
            percent("planted covariate, flagged", planted, at_least=95),
        ),
        (
            "innocent features",
            "not flagged",
            "flagged ≤ 5%",
            f"{innocent:.1%}",
            percent("innocent features, flagged", innocent, at_most=5),
        ),
    ]


def serving_rows() -> list[Row]:
    """Re-weighting to what serving sees.

    Nine classes at 98%, one at 70% that production mostly sees.
    """
    measured, drawn = serving_errors(as_measured=True), serving_errors(as_measured=False)
    return [
        (
            "nine classes measured at 98%, one at 70%: 80% of requests are of that one",
            "accuracy in serving",
            "off ≤ 2 points",
            points(measured),
            Figure(
                "accuracy in serving, off", 100 * high_error(measured), at_most=2, unit=" points"
            ),
        ),
        (
            "the same, test split drawn at random: 500 examples of the class",
            "accuracy in serving",
            "–",
            points(drawn),
            Figure(
                "accuracy in serving by a random split, off",
                100 * high_error(drawn),
                unit=" points",
            ),
        ),
    ]


def percent(
    name: str, share: float, at_most: float | None = None, at_least: float | None = None
) -> Figure:
    """A share of 1 as a figure in percent."""
    return Figure(name, 100 * share, at_most, at_least, "%")


def high_error(errors: Errors) -> float:
    """The error that 95% of the runs stay below, of 1."""
    return float(np.quantile(errors.weighted, 0.95))


def points(errors: Errors) -> str:
    """Errors in points, for the table."""
    mean, known, plain = (
        100 * float(estimates.mean()) for estimates in (errors.weighted, errors.known, errors.plain)
    )
    return (
        f"{mean:.2f} points off, {100 * high_error(errors):.2f} at most in 95% of runs "
        f"(shares known: {known:.2f}; not re-weighted: {plain:.1f})"
    )


def rate(gains: Array, right: Callable[[bool], bool], apart: bool = False) -> float:
    """Counts how often the gate is right about a candidate that gains so much on each slice."""
    rng = np.random.default_rng(1)
    return float(np.mean([right(promoted(rng, gains, apart)) for _ in range(RUNS)]))


def promoted(rng: Generator, gains: Array, apart: bool) -> bool:
    """Gives what the gate says of one simulated candidate."""
    where = rng.permutation(np.arange(EXAMPLES) % SLICES)
    champion = correct(rng, np.full(EXAMPLES, CHAMPION), hardness := rng.random(EXAMPLES))
    candidate = correct(rng, CHAMPION + gains[where], rng.random(EXAMPLES) if apart else hardness)
    labels = rng.integers(0, 2, EXAMPLES)
    pair = Pair(answers(candidate, labels), answers(champion, labels), labels, "accuracy")
    terms = Terms("prediction", GATE.confidence, 30)
    groups = [Group(f"slice={number}", np.flatnonzero(where == number)) for number in range(SLICES)]
    differences = [compare_overall(pair, terms), *compare_slices(pair, terms, groups)]
    return decide_promotion(evaluation(float(candidate.mean()), differences), GATE).promote


def correct(rng: Generator, accuracy: Array, hardness: Array) -> Array:
    """Draws which examples a model gets right.

    Examples of equal hardness are as hard for every model.
    """
    from scipy import stats

    chance = stats.beta.ppf(hardness, accuracy * HARDNESS, (1 - accuracy) * HARDNESS)
    return rng.random(len(accuracy)) < chance


def answers(right: Array, labels: Array) -> Array:
    """Class probabilities that are right or wrong, [n, 2]."""
    predicted = np.where(right, labels, 1 - labels)
    return np.stack([predicted == 0, predicted == 1], axis=1).astype(float)


def evaluation(accuracy: float, differences: list[Any]) -> Evaluation:
    """The evaluation of one simulated candidate."""
    overall = SliceMetrics(
        model=CANDIDATE,
        task="prediction",
        slice=OVERALL,
        examples=EXAMPLES,
        values={"accuracy": accuracy},
    )
    return Evaluation(
        candidate="instance-1",
        digest="",
        champion=Champion(version="1", digest="", deployment=1),
        tasks=[EvaluatedTask(name="prediction", kind="binary")],
        trainings=[],
        examples=EXAMPLES,
        slices=[overall],
        differences=differences,
        confusion=[],
        mistakes=[],
        not_compared=[],
    )


if __name__ == "__main__":
    sys.exit(main())
