"""The run report's plots of data and of the comparison with the champion.

Each function returns an `<svg>` element, or None when there is nothing finite to draw.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from components.conclude_run.drawing import BETTER, INK, MUTED, PAPER, REST, SERIES, WORSE, draw, shorten
from components.conclude_run.formats import axis_unit
from schemas.records import ConfusionMatrix, Difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS, MOST_INTERVALS, MOST_COUNTED_CLASSES = 30, 30, 20
MOST_LISTED = 200  # more different labels than that are values, not classes


def label_bars(new: Mapping[str, int], rest: Mapping[str, int]) -> str | None:
    """Share of each label among the new spans beside the rest of the window; counts when there is only one of them."""
    series = [("new spans", new, SERIES[0]), ("rest of the window", rest, REST)]
    series = [(name, counts, colour) for name, counts, colour in series if sum(counts.values())]
    labels = most_frequent_labels(new, rest)
    if not series:
        return None
    crowded = len(labels) > 12 or max(map(len, labels)) > 4

    def paint(axes: Axes) -> None:
        width = 0.8 / len(series)
        for number, (name, counts, colour) in enumerate(series):
            total = sum(counts.values())
            scale = 100 / total if len(series) > 1 else 1
            places = [place - 0.4 + width * (number + 0.5) for place in range(len(labels))]
            heights = [counts.get(label, 0) * scale for label in labels]
            axes.bar(places, heights, width * 0.92, color=colour, label=f"{name} ({total:,} examples)")
        axes.set_xticks(range(len(labels)), [shorten(label, 14) for label in labels], rotation=90 if crowded else 0)
        axes.set(xlabel="label", ylabel="share of examples (%)" if len(series) > 1 else "examples")
        axes.grid(axis="x", visible=False)

    alt = f"Bars by label: {' and '.join(name for name, _, _ in series)}"
    return draw("labels", alt, 3.7 if crowded else 2.7, paint)


def forest(differences: Sequence[Difference], margin: float | None) -> str | None:
    """Differences of a task on one metric with intervals, by slice; right of the zero line the candidate is better."""
    drawn = shown_intervals(differences)
    if not drawn:
        return None
    metric = drawn[0].metric
    scale = 100 if metric == "accuracy" else 1

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1.2)
        if margin:
            axes.plot(
                [-margin * scale] * 2, [-0.5, 0.5], color=WORSE, lw=2, ls=(0, (2, 1))
            )  # the gate reads `overall` only
        for row, difference in enumerate(drawn):
            _interval(axes, row, difference, scale)
        axes.set_yticks(range(len(drawn)), [f"{shorten(row.slice, 22)}  ({row.examples:,})" for row in drawn])
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.set_xlabel(f"worse  ←  {axis_unit(metric)}  →  better")
        axes.grid(axis="y", visible=False)

    alt = f"Differences in {metric} by slice, candidate against champion, with intervals: {len(drawn)} rows"
    name = re.sub("[^a-z0-9]+", "-", f"forest-{drawn[0].task}-{metric}".lower())
    return draw(name, alt, 1.0 + 0.28 * len(drawn), paint)


def confusion(matrix: ConfusionMatrix, scale: float) -> str | None:
    """Heatmap of counts: right answers blue, mistakes orange by their share of the true class.

    `scale` is the share (0 to 1) that gets the full orange: the same for matrices that stand side by side.
    """
    classes = len(matrix.labels)
    if not any(sum(row) for row in matrix.counts):
        return None

    def paint(axes: Axes) -> None:
        for true, counts in enumerate(matrix.counts):
            for predicted, count in enumerate(counts):
                if count:
                    _cell(axes, true, predicted, count, count / sum(counts), scale, classes)
        names = [shorten(label, 8) for label in matrix.labels]
        every = math.ceil(classes / MOST_COUNTED_CLASSES)
        crowded = max(len(name) for name in names) > 3
        axes.set_xticks(range(classes)[::every], names[::every], rotation=90 if crowded else 0)
        axes.set_yticks(range(classes)[::every], names[::every])
        axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted label", ylabel="true label")
        axes.tick_params(length=0)
        axes.grid(visible=False)

    alt = f"Confusion matrix of the {matrix.model}: {classes} labels, true by row, predicted by column"
    return draw(f"confusion-{matrix.model}", alt, 5.6, paint)


def largest_confusion(matrices: Sequence[ConfusionMatrix]) -> float:
    """The largest share of a true class (0 to 1) that any of the models takes for another class."""
    rows = [(true, counts) for matrix in matrices for true, counts in enumerate(matrix.counts) if sum(counts)]
    shares = [count / sum(counts) for true, counts in rows for i, count in enumerate(counts) if count and i != true]
    return max(shares, default=1.0)


def frequent_confusions(matrix: ConfusionMatrix) -> list[tuple[str, str, int]]:
    """The three most frequent confusions of a model: true label, predicted label, count."""
    pairs = ((i, j) for i in range(len(matrix.labels)) for j in range(len(matrix.labels)) if i != j)
    found = [(matrix.labels[i], matrix.labels[j], matrix.counts[i][j]) for i, j in pairs if matrix.counts[i][j]]
    return sorted(found, key=lambda row: -row[2])[:3]


def shown_intervals(differences: Sequence[Difference]) -> list[Difference]:
    """The differences that a forest plot shows: finite ones; `overall` first; of too many, the worst."""
    finite = [row for row in differences if all(map(math.isfinite, (row.value, row.low, row.high)))]
    overall = [row for row in finite if row.slice == "overall"]
    slices = [row for row in finite if row.slice != "overall"]
    worst = sorted(slices, key=lambda row: row.value)[: MOST_INTERVALS - len(overall)]
    return overall + [row for row in slices if row in worst]


def most_frequent_labels(*counts: Mapping[str, int]) -> list[str]:
    """The labels that a bar chart shows, in order (numbers as numbers): of too many, the most frequent."""
    totals = {label: sum(count.get(label, 0) for count in counts) for count in counts for label in count}
    frequent = sorted(totals, key=lambda label: (-totals[label], label))[:MOST_BARS]
    return in_order(frequent)


def in_order(*labels: Iterable[str]) -> list[str]:
    """All the labels once, numbers as numbers, then text."""
    return sorted(
        {label for some in labels for label in some},
        key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label),
    )


def _interval(axes: Axes, row: int, difference: Difference, scale: float) -> None:
    clear = difference.low > 0 or difference.high < 0
    colour = (BETTER if difference.low > 0 else WORSE) if clear else MUTED
    heavy = 1.5 if difference.slice == "overall" else 1.0
    axes.plot([difference.low * scale, difference.high * scale], [row, row], color=colour, lw=1.5 * heavy, zorder=3)
    face = colour if clear else PAPER
    marker = "D" if difference.high < 0 else "o"
    axes.plot([difference.value * scale], [row], marker, color=colour, ms=6 * heavy, mfc=face, mew=1.3, zorder=4)


def _cell(axes: Axes, true: int, predicted: int, count: int, share: float, scale: float, classes: int) -> None:
    from matplotlib.patches import Rectangle

    right = true == predicted
    opacity = 0.08 + 0.42 * share if right else 0.15 + 0.6 * min(1.0, share / scale)
    corner = (predicted - 0.48, true - 0.48)
    axes.add_patch(Rectangle(corner, 0.96, 0.96, color=BETTER if right else WORSE, alpha=opacity, lw=0))
    if classes <= MOST_COUNTED_CLASSES:
        size = 11.5 if classes <= 12 else 8
        axes.text(predicted, true, str(count), ha="center", va="center_baseline", fontsize=size, color=INK)
