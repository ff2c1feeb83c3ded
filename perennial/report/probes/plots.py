"""Plots of what the answers rest on: suspect features, importances, costs, attributions.

Each function gives an `<svg>` element, or None where nothing finite can be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    shorten,
    shorten_middle,
)
from perennial.report.formats import scale_of, unit_of
from perennial.report.probes.rows import by_pixel, largest_first, needed_first
from perennial.tasks import metric_words
from schemas.records import (
    Attribution,
    CovariateProbe,
    ExampleAttribution,
    Probing,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_BARS, MOST_PARTS, MOST_ELEMENTS = 20, 8, 100
MOST_CELLS = 32  # rows and columns of a heatmap; larger ones are drawn by means of neighbours
_SHADES = 8
_PROBES = {"permute": "shuffled", "invert": "opposite", "latent": "latent"}


def chance_ranges(probes: Sequence[CovariateProbe], number: int) -> str | None:
    """Draws probes of one unit: what was found, and the range of chance (mean ± 2 deviations)."""
    drawn = [
        probe
        for probe in probes
        if all(map(math.isfinite, (probe.value, probe.chance, probe.spread)))
    ]
    drawn = sorted(drawn, key=lambda probe: not probe.flagged)[:MOST_BARS]
    if not drawn:
        return None

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(6))
        for place, probe in enumerate(drawn):
            _chance(axes, place, probe)
        names = [f"{shorten_middle(probe.feature, 18)}: {_PROBES[probe.probe]}" for probe in drawn]
        axes.set_yticks(range(len(drawn)), names)
        axes.set(ylim=(len(drawn) - 0.4, -0.6), xlabel=shorten(drawn[0].unit, 60))
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)

    alt = f"What {len(drawn)} probes of suspect features gave beside what chance gives"
    return draw(f"chance-{number}", alt, AROUND + 0.25 + ROW * len(drawn), paint)


def importance_bars(probing: Probing) -> str | None:
    """Draws what shuffling each feature loses of the metric, the most needed first."""
    drawn = needed_first(probing.importances)[:MOST_BARS]
    drawn = [row for row in drawn if math.isfinite(row.loss)]
    if not drawn:
        return None
    scale = scale_of(probing.metric)

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1.2)
        axes.barh(
            range(len(drawn)),
            [row.loss * scale for row in drawn],
            0.62,
            color=BETTER,
            alpha=0.55,
            lw=0,
        )
        for place, row in enumerate(drawn):
            _whisker(axes, [row.low * scale, row.high * scale], [place, place])
        _name_rows(axes, [row.feature for row in drawn])
        axes.set_xlabel(_lost(probing))

    alt = f"What shuffling each of {len(drawn)} features loses of the {probing.metric}"
    return draw("importances", alt, AROUND + ROW * len(drawn), paint)


def drop_steps(probing: Probing) -> str | None:
    """Draws what is lost by what is saved, as the cheapest contributors are left out in turn."""
    drawn = [row for row in probing.drops if math.isfinite(row.loss) and math.isfinite(row.saved)]
    if not drawn:
        return None
    scale, drawn = (
        scale_of(probing.metric),
        sorted(drawn, key=lambda row: (row.saved, len(row.features))),
    )

    def paint(axes: Axes) -> None:
        saved, lost = (
            [0.0, *(row.saved for row in drawn)],
            [0.0, *(row.loss * scale for row in drawn)],
        )
        axes.axhline(0, color=INK, lw=1.2)
        axes.step(saved, lost, where="post", color=SERIES[0], lw=1.6)
        for row in drawn:
            _whisker(axes, [row.saved] * 2, [row.low * scale, row.high * scale])
            axes.plot(
                [row.saved],
                [row.loss * scale],
                "o",
                color=SERIES[0],
                ms=6,
                mec=PAPER,
                mew=1,
                zorder=5,
            )
        axes.set(xlabel="saved for each example, in the unit of cost", ylabel=_lost(probing))

    return draw("drops", f"Loss of {probing.metric} by saved cost, {len(drawn)} steps", 3.0, paint)


def attribution_bars(attributions: Sequence[Attribution]) -> str | None:
    """Draws the mean absolute attribution of each transformed feature, the greatest first."""
    drawn = [row for row in largest_first(attributions) if math.isfinite(row.mean)][:MOST_BARS]
    if not drawn:
        return None

    def paint(axes: Axes) -> None:
        axes.barh(
            range(len(drawn)), [row.mean for row in drawn], 0.62, color=SERIES[0], alpha=0.75, lw=0
        )
        _name_rows(axes, [row.feature for row in drawn])
        axes.set_xlabel("mean absolute attribution")

    return draw(
        "attributions",
        f"Mean absolute attribution of {len(drawn)} features",
        AROUND + ROW * len(drawn),
        paint,
    )


def element_map(attribution: Attribution, number: int) -> str | None:
    """Draws where in an image, matrix or vector the attribution lies; None for a single number."""
    if len(attribution.elements) < 2 or not any(
        math.isfinite(value) and value for value in attribution.elements
    ):
        return None
    if by_pixel(attribution.elements, attribution.shape):
        return _heatmap(attribution, number)
    values = [value if math.isfinite(value) else 0.0 for value in attribution.elements]

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        if len(values) <= MOST_ELEMENTS:
            axes.bar(range(len(values)), values, 0.85, color=SERIES[0], alpha=0.75, lw=0)
        else:  # bars would be thinner than a pixel
            axes.fill_between(
                range(len(values)), values, step="mid", color=SERIES[0], alpha=0.75, lw=0
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(
            xlabel="element, counted from 0", ylabel="mean absolute attribution", ylim=(0, None)
        )

    alt = f"Attribution of {attribution.feature} by element, {len(values)} elements"
    return draw(f"elements-{number}", alt, 2.6, paint)


def pooling(attribution: Attribution) -> int:
    """Gives how many neighbouring rows and columns of a heatmap are drawn as one."""
    return max(1, math.ceil(max(attribution.shape[:2]) / MOST_CELLS))


def signed_parts(example: ExampleAttribution, number: int) -> str | None:
    """Draws what each feature adds to the output of one example; left of zero it lowers it."""
    finite = {name: value for name, value in example.attributions.items() if math.isfinite(value)}
    if not any(finite.values()):
        return None
    order = sorted(finite, key=lambda name: -abs(finite[name]))
    rows = [(name, finite[name]) for name in order[:MOST_PARTS]]
    if len(order) > MOST_PARTS:
        rest = order[MOST_PARTS:]
        rows.append((f"{len(rest)} others", math.fsum(finite[name] for name in rest)))

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1.2)
        colours = [BETTER if value > 0 else WORSE for _, value in rows]
        axes.barh(
            range(len(rows)), [value for _, value in rows], 0.62, color=colours, alpha=0.75, lw=0
        )
        _name_rows(axes, [name for name, _ in rows])
        axes.margins(x=0.1)
        axes.locator_params(axis="x", nbins=5)  # small numbers have long labels
        axes.set_xlabel("lowers  ←  added to the output  →  raises")

    return draw(
        f"parts-{number}",
        f"Attributions of {len(finite)} features",
        AROUND + ROW * len(rows),
        paint,
    )


def _chance(axes: Axes, place: int, probe: CovariateProbe) -> None:
    from matplotlib.patches import Rectangle

    low, high = probe.chance - 2 * probe.spread, probe.chance + 2 * probe.spread
    first = place == 0
    label = "chance: mean ± 2 standard deviations" if first else None
    axes.add_patch(
        Rectangle((low, place - 0.3), high - low, 0.6, color=REST, alpha=0.6, lw=0, label=label)
    )
    axes.plot([probe.chance] * 2, [place - 0.3, place + 0.3], color=MUTED, lw=1.6, zorder=3)
    colour, marker = (WORSE, "D") if probe.flagged else (BETTER, "o")
    axes.plot([probe.value], [place], marker, color=colour, ms=7, mec=PAPER, mew=1, zorder=4)


def _heatmap(attribution: Attribution, number: int) -> str:
    height, width, step = attribution.shape[0], attribution.shape[1], pooling(attribution)
    cells = _pooled(attribution.elements, height, width, step)
    most = max(cells.values())

    def paint(axes: Axes) -> None:
        for shade in range(1, _SHADES + 1):
            chosen = [
                cell for cell, value in cells.items() if math.ceil(_SHADES * value / most) == shade
            ]
            if chosen:  # one path for each shade: a page with an image has no thousands of elements
                axes.add_patch(_squares(chosen, 0.9 * shade / _SHADES))
        rows, columns = max(row for row, _ in cells), max(column for _, column in cells)
        axes.set(
            xlim=(-0.6, columns + 0.6),
            ylim=(rows + 0.6, -0.6),
            aspect="equal",
            xlabel="column",
            ylabel="row",
        )
        _count_cells(axes.set_xticks, columns, step)
        _count_cells(axes.set_yticks, rows, step)
        axes.tick_params(length=0)
        axes.grid(visible=False)

    return draw(
        f"elements-{number}", f"Attribution of {attribution.feature} by row and column", 4.2, paint
    )


def _count_cells(set_ticks: Any, last: int, step: int) -> None:
    """Sets ticks that count the rows or columns of the feature, not the drawn cells."""
    shown = range(0, last + 1, max(1, math.ceil((last + 1) / 8)))
    set_ticks(list(shown), [str(cell * step) for cell in shown])


def _pooled(
    elements: Sequence[float], height: int, width: int, step: int
) -> dict[tuple[int, int], float]:
    """Averages the absolute values of each square of `step` rows and columns."""
    cells: dict[tuple[int, int], list[float]] = {}
    for row in range(height):
        for column in range(width):
            value = abs(elements[row * width + column])
            cells.setdefault((row // step, column // step), []).append(
                value if math.isfinite(value) else 0.0
            )
    return {cell: math.fsum(values) / len(values) for cell, values in cells.items()}


def _squares(cells: Sequence[tuple[int, int]], opacity: float) -> Any:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    squares = [
        Path.unit_rectangle().transformed(_moved(column - 0.5, row - 0.5)) for row, column in cells
    ]
    return PathPatch(Path.make_compound_path(*squares), color=SERIES[0], alpha=opacity, lw=0)


def _moved(right: float, down: float) -> Any:
    from matplotlib.transforms import Affine2D

    return Affine2D().translate(right, down)


def _whisker(axes: Axes, places: Sequence[float], heights: Sequence[float]) -> None:
    if all(map(math.isfinite, (*places, *heights))):
        axes.plot(places, heights, color=INK, lw=1.4, zorder=4)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shorten_middle(name, 24) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _lost(probing: Probing) -> str:
    unit = unit_of(probing.metric)
    return f"lost {metric_words(probing.metric)}{f', {unit}' if unit else ''}"
