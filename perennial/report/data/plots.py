"""Plots of the labels that landed.

Each function gives an `<svg>` element, or None where nothing finite can be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perennial.report.figures import REST, SERIES, draw, most_frequent_labels, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_LISTED = 200  # more different labels than that are values, not classes


def label_bars(new: Mapping[str, int], rest: Mapping[str, int]) -> str | None:
    """Draws the share of each label among the new spans beside the rest of the window.

    Where there is only one of the two, its counts are drawn.
    """
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
            axes.bar(
                places, heights, width * 0.92, color=colour, label=f"{name} ({total:,} examples)"
            )
        axes.set_xticks(
            range(len(labels)),
            [shorten(label, 14) for label in labels],
            rotation=90 if crowded else 0,
        )
        axes.set(xlabel="label", ylabel="share of examples (%)" if len(series) > 1 else "examples")
        axes.grid(axis="x", visible=False)

    alt = f"Bars by label: {' and '.join(name for name, _, _ in series)}"
    return draw("labels", alt, 3.7 if crowded else 2.7, paint)
