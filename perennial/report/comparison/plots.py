"""Plots of the comparison: differences, calibration, groups, what serving sees, confusion.

Each function gives an `<svg>` element, or None where nothing finite can be drawn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from perennial.report.comparison.rows import decides
from perennial.report.figures import (
    AROUND,
    BETTER,
    INK,
    MUTED,
    PAPER,
    REST,
    ROW,
    SERIES,
    WORSE,
    draw,
    most_frequent_labels,
    shorten,
    shorten_middle,
)
from perennial.report.formats import axis_unit, scale_of
from schemas.project import GateSettings
from schemas.records import (
    CANDIDATE,
    OVERALL,
    Calibration,
    CalibrationBin,
    ConfusionMatrix,
    Difference,
    Fairness,
    ScoreDistribution,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_COUNTED_CLASSES = 20  # of a confusion matrix with its counts
MOST_INTERVALS, MOST_GROUPS = 30, 30
_GAP = 0.6  # rows between overall, views and slices
_LONGEST_LABEL = 26  # characters beside a plot
_STRIP = 21  # quantiles of a score distribution: every twentieth


def forest(differences: Sequence[Difference], gate: GateSettings | None) -> str | None:
    """Draws differences of one task and metric with intervals; right of zero is better.

    With a gate, the loss that it tolerates is drawn at the rows that it reads.
    """
    drawn = shown_intervals(differences)
    if not drawn:
        return None
    metric, places = drawn[0].metric, _places(drawn)
    scale = scale_of(metric)

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1.2)
        for place, difference in zip(places, drawn, strict=True):
            _interval(axes, place, difference, scale)
            tolerated = _tolerated(difference, gate)
            if tolerated:
                axes.plot(
                    [-tolerated * scale] * 2,
                    [place - 0.5, place + 0.5],
                    color=WORSE,
                    lw=2,
                    ls=(0, (2, 1)),
                )
        axes.set_yticks(places, [f"{slice_label(row.slice)}  ({row.examples:,})" for row in drawn])
        for label, row in zip(axes.get_yticklabels(), drawn, strict=True):
            label.set_fontweight("bold" if row.slice == OVERALL or decides(row, gate) else "normal")
        axes.set_ylim(places[-1] + 0.6, -0.6)
        axes.margins(x=0.08)
        axes.set_xlabel(f"worse  ←  {axis_unit(metric)}  →  better")
        axes.grid(axis="y", visible=False)

    models = "candidate against champion, with intervals"
    alt = f"Differences in {metric} by slice, {models}: {len(drawn)} rows"
    name = re.sub("[^a-z0-9]+", "-", f"forest-{drawn[0].task}-{metric}".lower())
    return draw(name, alt, AROUND + ROW * (places[-1] + 1), paint)


def shown_intervals(differences: Sequence[Difference]) -> list[Difference]:
    """Gives the candidate's differences that a forest plot shows: overall, views, then slices.

    Of too many the worst are shown; those without an interval are left out first.
    """
    finite = [row for row in differences if row.model == CANDIDATE and math.isfinite(row.value)]
    overall = [row for row in finite if row.slice == OVERALL]
    others = [row for row in finite if row.slice != OVERALL]
    worst = sorted(others, key=lambda row: (not row.has_interval, row.value))[
        : MOST_INTERVALS - len(overall)
    ]
    kept = [row for row in others if row in worst]
    return overall + [row for row in kept if row.view] + [row for row in kept if not row.view]


def reliability(calibration: Calibration, number: int) -> str | None:
    """Draws how often a model was right by how sure it was, beside the diagonal."""
    filled = [row for row in calibration.bins if row.examples]
    bins = [row for row in filled if math.isfinite(row.confidence) and math.isfinite(row.accuracy)]
    if not bins:
        return None
    colour, most = (
        SERIES[0] if calibration.model == CANDIDATE else MUTED,
        max(row.examples for row in bins),
    )
    start = min(0.5, *(min(row.low, row.accuracy) for row in bins)) if bins else 0.0
    least = 100 * math.floor(10 * start) / 10

    def paint(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, lw=1.2, ls=(0, (4, 3)))
        for row in bins:
            _bin(axes, row, colour, most)
        axes.set(
            xlabel="confidence: how sure it is (%)",
            ylabel="how often it is right (%)",
            aspect="equal",
        )
        axes.set(xlim=(least - 2, 102), ylim=(least - 2, 102))

    shown = f"accuracy by confidence in {len(bins)} bins"
    alt = f"Reliability of the {calibration.model} on {calibration.task}: {shown}"
    return draw(f"reliability-{number}", alt, 4.6, paint)


def score_strips(fairness: Fairness, feature: str, number: int) -> str | None:
    """Draws the scores of each group of a feature: range, middle half and median."""
    flagged = {test.group for test in fairness.flagged if test.feature == feature}
    rows = shown_groups(fairness, feature)
    if not rows:
        return None

    def paint(axes: Axes) -> None:
        for place, row in enumerate(rows):
            _strip(axes, place, row.quantiles, WORSE if row.group in flagged else SERIES[0])
        axes.set_yticks(
            range(len(rows)),
            [f"{shorten_middle(row.group, _LONGEST_LABEL)}  ({row.examples:,})" for row in rows],
        )
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if row.group in flagged else "normal")
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=shorten(fairness.score, 60))
        axes.grid(axis="y", visible=False)

    alt = f"Scores by group of {feature}: {len(rows)} groups"
    return draw(f"scores-{number}", alt, AROUND + ROW * len(rows), paint)


def shown_groups(fairness: Fairness, feature: str) -> list[ScoreDistribution]:
    """Gives the groups that a plot shows: flagged ones first, then the largest."""
    flagged = {test.group for test in fairness.flagged if test.feature == feature}
    finite = [
        row
        for row in fairness.scores
        if row.feature == feature
        and len(row.quantiles) == _STRIP
        and all(map(math.isfinite, row.quantiles))
    ]
    return sorted(finite, key=lambda row: (row.group not in flagged, -row.examples))[:MOST_GROUPS]


def class_shares(tested: Mapping[str, float], served: Mapping[str, float]) -> str | None:
    """Draws the share of each class in the test split beside its estimated share in serving."""
    finite = [
        {label: share for label, share in shares.items() if math.isfinite(share)}
        for shares in (tested, served)
    ]
    labels = most_frequent_labels(*finite)
    if not labels or not any(finite[1].values()):
        return None
    crowded = len(labels) > 12 or max(map(len, labels)) > 4

    def paint(axes: Axes) -> None:
        series = zip(
            ("tested", "served (estimated)"), finite, (REST, SERIES[0]), (-0.2, 0.2), strict=True
        )
        for name, shares, colour, shift in series:
            heights = [100 * shares.get(label, 0.0) for label in labels]
            axes.bar(
                [place + shift for place in range(len(labels))],
                heights,
                0.37,
                color=colour,
                label=name,
            )
        axes.set_xticks(
            range(len(labels)),
            [shorten(label, 14) for label in labels],
            rotation=90 if crowded else 0,
        )
        axes.set(xlabel="class", ylabel="share of examples (%)")
        axes.grid(axis="x", visible=False)

    return draw(
        "served",
        "Share of each class in the test split and in serving",
        3.7 if crowded else 2.7,
        paint,
    )


def slice_label(name: str) -> str:
    """Shortens a slice's name; of a long cross each feature's name, so that its values stay."""
    parts = [part.partition("=") for part in name.split(", ")]
    if len(name) <= _LONGEST_LABEL or len(parts) == 1 or not all(equals for _, equals, _ in parts):
        return shorten_middle(name, _LONGEST_LABEL)
    return ", ".join(f"{shorten(feature, 7)}={shorten(value, 12)}" for feature, _, value in parts)


def confusion(matrix: ConfusionMatrix, scale: float) -> str | None:
    """Draws counts as a heatmap: right answers blue, mistakes orange by their share of the class.

    `scale` is the share (0 to 1) that gets the full orange: one for all matrices side by side.
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

    places = "true by row, predicted by column"
    alt = f"Confusion matrix of the {matrix.model}: {classes} labels, {places}"
    return draw(f"confusion-{matrix.model}", alt, 5.6, paint)


def largest_confusion(matrices: Sequence[ConfusionMatrix]) -> float:
    """Gives the largest share of a true class (0 to 1) that a model takes for another class."""
    rows = [
        (true, counts)
        for matrix in matrices
        for true, counts in enumerate(matrix.counts)
        if sum(counts)
    ]
    shares = [
        count / sum(counts)
        for true, counts in rows
        for i, count in enumerate(counts)
        if count and i != true
    ]
    return max(shares, default=1.0)


def frequent_confusions(matrix: ConfusionMatrix) -> list[tuple[str, str, int]]:
    """Gives a model's three most frequent confusions: true label, predicted label, count."""
    pairs = ((i, j) for i in range(len(matrix.labels)) for j in range(len(matrix.labels)) if i != j)
    rows = [
        (matrix.labels[i], matrix.labels[j], matrix.counts[i][j])
        for i, j in pairs
        if matrix.counts[i][j]
    ]
    return sorted(rows, key=lambda row: -row[2])[:3]


def _places(drawn: Sequence[Difference]) -> list[float]:
    """Places the rows, with a gap between overall, views and slices."""
    places, place = [], 0.0
    for _, rows in groupby(drawn, key=lambda row: (row.slice == OVERALL, row.view)):
        for _ in rows:
            places.append(place)
            place += 1
        place += _GAP
    return places


def _tolerated(row: Difference, gate: GateSettings | None) -> float | None:
    if gate is None:
        return None
    if decides(row, gate):
        return gate.margin if gate.mode == "not_worse" else None
    return gate.slice_loss if row.slice != OVERALL else None


def _interval(axes: Axes, place: float, difference: Difference, scale: float) -> None:
    heavy = 1.5 if difference.slice == OVERALL else 1.0
    if not difference.has_interval:
        axes.plot([difference.value * scale], [place], "x", color=MUTED, ms=6, mew=1.3, zorder=4)
        return
    clear = difference.low > 0 or difference.high < 0
    colour = (BETTER if difference.low > 0 else WORSE) if clear else MUTED
    axes.plot(
        [difference.low * scale, difference.high * scale],
        [place, place],
        color=colour,
        lw=1.5 * heavy,
        zorder=3,
    )
    face = colour if clear else PAPER
    marker = "D" if difference.high < 0 else "o"
    axes.plot(
        [difference.value * scale],
        [place],
        marker,
        color=colour,
        ms=6 * heavy,
        mfc=face,
        mew=1.3,
        zorder=4,
    )


def _bin(axes: Axes, row: CalibrationBin, colour: str, most: int) -> None:
    """Draws a dot as large as its examples are many, and a line to the diagonal."""
    sure, right = 100 * row.confidence, 100 * row.accuracy
    weight = math.sqrt(row.examples / most)  # what few examples say is drawn pale
    axes.plot([sure, sure], [sure, right], color=colour, lw=1.6, alpha=0.3 + 0.7 * weight, zorder=3)
    size = 4 + 12 * weight
    axes.plot([sure], [right], "o", color=colour, ms=size, mec=PAPER, mew=1, zorder=4)


def _strip(axes: Axes, place: int, quantiles: Sequence[float], colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.plot([quantiles[0], quantiles[-1]], [place, place], color=colour, lw=1.2, zorder=3)
    low, middle, high = quantiles[5], quantiles[10], quantiles[15]
    axes.add_patch(
        Rectangle((low, place - 0.3), high - low, 0.6, color=colour, alpha=0.35, lw=0, zorder=3)
    )
    axes.plot([middle, middle], [place - 0.3, place + 0.3], color=colour, lw=2.6, zorder=4)


def _cell(
    axes: Axes, true: int, predicted: int, count: int, share: float, scale: float, classes: int
) -> None:
    from matplotlib.patches import Rectangle

    right = true == predicted
    opacity = 0.08 + 0.42 * share if right else 0.15 + 0.6 * min(1.0, share / scale)
    corner = (predicted - 0.48, true - 0.48)
    axes.add_patch(
        Rectangle(corner, 0.96, 0.96, color=BETTER if right else WORSE, alpha=opacity, lw=0)
    )
    if classes <= MOST_COUNTED_CLASSES:
        size = 11.5 if classes <= 12 else 8
        axes.text(
            predicted, true, str(count), ha="center", va="center_baseline", fontsize=size, color=INK
        )
