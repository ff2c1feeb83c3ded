"""The run report's plots of labels and of confusions.

Each function returns an `<svg>` element, or None when there is nothing finite to draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from perennial.report.figures import BETTER, INK, REST, SERIES, WORSE, draw, shorten
from schemas.records import ConfusionMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS, MOST_COUNTED_CLASSES = 30, 20
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


def most_frequent_labels(*counts: Mapping[str, float]) -> list[str]:
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


def _cell(axes: Axes, true: int, predicted: int, count: int, share: float, scale: float, classes: int) -> None:
    from matplotlib.patches import Rectangle

    right = true == predicted
    opacity = 0.08 + 0.42 * share if right else 0.15 + 0.6 * min(1.0, share / scale)
    corner = (predicted - 0.48, true - 0.48)
    axes.add_patch(Rectangle(corner, 0.96, 0.96, color=BETTER if right else WORSE, alpha=opacity, lw=0))
    if classes <= MOST_COUNTED_CLASSES:
        size = 11.5 if classes <= 12 else 8
        axes.text(predicted, true, str(count), ha="center", va="center_baseline", fontsize=size, color=INK)
