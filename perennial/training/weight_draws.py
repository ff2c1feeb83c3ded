"""The choice among draws of initial weights: health, then loss, then calm gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pvariance, stdev

from perennial.training.trainer import Steps
from schemas.records import WeightDraw

# A draw with more than half of its ReLU units silent has lost half of its capacity before training
# began: a silent unit gets no gradient and stays silent. Source: Lu et al. 2019, "Dying ReLU and
# Initialization"; the half is our choice.
MOST_DEAD_UNITS = 0.5
# Greatest standard deviation of the gradient's norm beside its mean; 1 is that of an exponential
# distribution. Above, a few steps hold most of the gradient: one norm of ten times the others'
# gives 1.2 over the default 30 steps. Source for the ten: Pascanu et al. 2013, "On the difficulty
# of training recurrent neural networks", section 3.2, where thresholds of up to ten times the
# average norm still train.
MOST_UNREST = 1.0
# The loss that counts is the mean over this last share of the steps: single batches are noisy.
TAIL = 0.25


def measure_draw(seed: int, steps: Steps, finite: bool, dead_units: float | None) -> WeightDraw:
    """Makes the record of a draw. `finite` says whether its losses and weights stayed finite.

    Norms that are not finite are left out of mean and variance: with 16-bit floats the optimizer
    skips such steps.
    """
    norms = [norm for norm in steps.gradient_norms if math.isfinite(norm)]
    return WeightDraw(
        seed=seed,
        losses=steps.losses,
        gradient_norm=fmean(norms) if norms else 0.0,
        gradient_variance=pvariance(norms) if norms else 0.0,
        dead_units=dead_units,
        finite=finite,
    )


def choose_draw(draws: Sequence[WeightDraw]) -> int:
    """Gives the index of the draw whose weights go on.

    Finite goes before not, healthy before not; of those the lowest final loss decides. Losses that
    lie within the standard error of the lowest are about equal: of them the draw with the calmest
    gradients goes on.

    Source: Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3 (the one
    standard error rule).
    """
    best = min(_rank(draw) for draw in draws)
    group = [number for number, draw in enumerate(draws) if _rank(draw) == best]
    lowest = min(group, key=lambda number: final_loss(draws[number].losses))
    limit = final_loss(draws[lowest].losses) + standard_error(draws[lowest].losses)
    equal = [number for number in group if final_loss(draws[number].losses) <= limit]
    return min(equal, key=lambda number: (unrest(draws[number]), final_loss(draws[number].losses)))


def healthy(draw: WeightDraw) -> bool:
    """Tells whether a draw is finite, learns, has enough live units, and calm gradients."""
    alive = (draw.dead_units or 0.0) <= MOST_DEAD_UNITS
    return draw.finite and draw.gradient_norm > 0 and alive and unrest(draw) <= MOST_UNREST


def unrest(draw: WeightDraw) -> float:
    """Computes the standard deviation of the gradient's norm as a share of its mean.

    Infinite where the mean is 0 or one of them is not finite.
    """
    if not draw.gradient_norm > 0 or not math.isfinite(draw.gradient_norm):
        return math.inf
    ratio = (
        math.sqrt(draw.gradient_variance) / draw.gradient_norm
        if draw.gradient_variance >= 0
        else math.inf
    )
    return ratio if math.isfinite(ratio) else math.inf


def final_loss(losses: Sequence[float]) -> float:
    """Computes the mean loss over the last quarter of the steps.

    Infinite when there are no steps or a loss is not a number.
    """
    tail = _tail(losses)
    mean = fmean(tail) if tail else math.inf
    return mean if math.isfinite(mean) else math.inf


def standard_error(losses: Sequence[float]) -> float:
    """Computes the standard error of `final_loss`; 0 where there are too few steps for one."""
    tail = _tail(losses)
    return (
        stdev(tail) / math.sqrt(len(tail))
        if len(tail) > 1 and all(map(math.isfinite, tail))
        else 0.0
    )


def _tail(losses: Sequence[float]) -> Sequence[float]:
    return losses[-max(1, round(len(losses) * TAIL)) :]


def _rank(draw: WeightDraw) -> tuple[bool, bool]:
    return not draw.finite, not healthy(draw)
