"""Plots of training: pretraining, weight draws, trials, design spaces, instances.

Each function gives an `<svg>` element, or None where nothing finite can be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from perennial.evaluation.error_distributions import distribution
from perennial.report.figures import (
    MUTED,
    PAPER,
    REST,
    SERIES,
    WORSE,
    Line,
    draw,
    draw_lines,
    shorten,
    spans_orders,
)
from perennial.report.formats import metric_axis, scale_of
from schemas.records import DesignComparison, Pretraining, Stabilisation, Training, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pretraining_by_epoch(pretraining: Pretraining) -> str | None:
    """Draws the losses of pretraining by epoch, on trained and on held-out examples."""
    held_out = pretraining.held_out_losses
    lines = [Line("held out", held_out, True)] if held_out else []
    lines.append(Line("trained on", pretraining.losses, not held_out))
    return draw_lines("pretraining", "epoch", "loss", lines)


def draws_by_step(stabilisation: Stabilisation, loss: str) -> str | None:
    """Draws the training loss of every weight draw by step; the chosen draw is thick."""
    draws = stabilisation.draws
    lines = [
        Line(f"seed {d.seed}", d.losses, number == stabilisation.chosen)
        for number, d in enumerate(draws)
    ]
    return draw_lines("draws", "training step", f"training {loss}", lines)


def trials_by_number(trials: Sequence[Trial], loss: str) -> str | None:
    """Draws the lowest eval loss of every trial in order, and the lowest so far as a line."""
    tried = sorted(trials, key=lambda trial: trial.number)
    finite = [
        (trial.number, trial.loss)
        for trial in tried
        if trial.loss is not None and math.isfinite(trial.loss)
    ]
    if not finite:
        return None
    numbers = [number for number, _ in finite]
    losses = [value for _, value in finite]
    failed = [trial.number for trial in tried if trial.number not in numbers]

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        lowest = list(accumulate(losses, min))
        best = losses.index(min(losses))
        axes.step(numbers, lowest, where="post", color=SERIES[0], lw=1.4, label="lowest so far")
        axes.plot(numbers, losses, "o", color=MUTED, ms=6, label="a trial")
        axes.plot(
            numbers[best],
            losses[best],
            "o",
            color=SERIES[0],
            ms=9,
            mec=PAPER,
            zorder=5,
            label="the best",
        )
        if failed:
            top = axes.get_xaxis_transform()  # they have no loss: they stand at the upper edge
            axes.plot(
                failed,
                [0.97] * len(failed),
                "x",
                color=WORSE,
                ms=7,
                mew=2,
                transform=top,
                label="failed",
            )
        wide = spans_orders(losses)
        axes.margins(y=0.15)
        axes.set(xlabel="trial", ylabel=f"eval {loss}{', log scale' if wide else ''}")
        axes.set_yscale("log" if wide else "linear")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return draw(
        "trials", f"Eval loss of {len(finite)} trials in the order they were tried", 3.0, paint
    )


def errors_by_space(comparison: DesignComparison, loss: str) -> str | None:
    """Draws for each design space the share of its models with at most each error.

    Failed models count among all: the curve of a space that has some ends below 100%.
    """
    spaces = {
        space: points
        for space in comparison.spaces
        if (points := distribution(_errors(comparison, space)))
    }
    if not spaces:
        return None
    every = [error for points in spaces.values() for error, _ in points]
    least, most = min(every), max(every)
    wide, margin = spans_orders(every), 0.03 * (most - least or abs(least) or 1.0)
    start, end = (least / 1.2, most * 1.2) if wide else (least - margin, most + margin)

    def paint(axes: Axes) -> None:
        for number, (space, points) in enumerate(spaces.items()):
            shares = [100 * share for _, share in points]
            places, heights = (
                [start, *(error for error, _ in points), end],
                [0.0, *shares, shares[-1]],
            )
            colour = SERIES[number] if number < len(SERIES) else REST
            axes.step(
                places,
                heights,
                where="post",
                color=colour,
                lw=1.8,
                ls=_dashes(number),
                label=shorten(space, 20),
            )
        axes.set(
            xlabel=f"lowest eval {loss}{', log scale' if wide else ''}",
            ylabel="models with that or less (%)",
        )
        axes.set(ylim=(-2, 102), xlim=(start, end), xscale="log" if wide else "linear")

    return draw("designs", f"Distribution of the errors of {', '.join(spaces)}", 3.2, paint)


def losses_by_epoch(trainings: Sequence[Training], candidate: str, loss: str) -> str | None:
    """Draws each instance's eval loss (solid) and training loss (dashed) by epoch.

    A dot marks the best epoch.
    """
    lines = []
    for training in trainings:
        solid, dashed = (
            [e.eval_loss for e in training.epochs],
            [e.train_loss for e in training.epochs],
        )
        name = training.instance.name
        lines.append(Line(name, solid, name == candidate, dashed, training.best_epoch))
    return draw_lines("losses", "epoch", loss, lines)


def metrics_by_epoch(trainings: Sequence[Training], candidate: str) -> str | None:
    """Draws each instance's eval metric by epoch; a dot marks the best epoch."""
    lines, metric = [], trainings[0].metric if trainings else "accuracy"
    scale = scale_of(metric)
    for training in trainings:
        name, values = (
            training.instance.name,
            [scale * epoch.eval_metric for epoch in training.epochs],
        )
        lines.append(Line(name, values, name == candidate, best=training.best_epoch))
    return draw_lines("metrics", "epoch", metric_axis(metric, "eval"), lines)


def _errors(comparison: DesignComparison, space: str) -> list[float | None]:
    return [sample.error for sample in comparison.samples if sample.space == space]


def _dashes(number: int) -> str:
    """Gives a line style, so that curves that cross differ by more than their colour."""
    return ("-", "--", "-.", ":")[number % 4]
