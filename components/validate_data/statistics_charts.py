"""Geometry of the statistics view's charts: each side's values as shares, over each other.

Nothing here is markup; the template draws what these records say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from perennial.data.distributions import Distribution, FloatArray, kind, merge

BINS = 24  # of a histogram; few enough for a chart of 340 pixels
POINTS = 16  # so few different numbers each get a bar of their own
CATEGORIES = 8  # bars of categories; the rest is one bar
# Share of the values at each end that a histogram's range leaves out, or a few would squeeze the
# others.
OUTER = 0.005


@dataclass(frozen=True)
class Bar:
    """The share of values, 0 to 1, of each side in one place; None: the side has no values."""

    label: str
    shares: tuple[float | None, ...]
    rest: bool = False


@dataclass(frozen=True)
class Chart:
    """Bars, and the greatest share, where an axis ends. A histogram has the ends of its range."""

    bars: list[Bar]
    top: float
    low: float | None = None
    high: float | None = None
    outside: tuple[float | None, ...] = ()
    categories: bool = False

    @property
    def is_histogram(self) -> bool:
        """Tells whether the bars are bins of a range of numbers."""
        return self.low is not None

    def height(self, share: float | None, whole: float) -> float:
        """Computes the height of a bar on an axis of this height."""
        return round((share or 0.0) / self.top * whole, 2) if self.top else 0.0

    def outline(self, side: int, width: float, height: float) -> str:
        """Draws an SVG path along the tops of one side's bars; its origin is the upper left."""
        step = width / len(self.bars)
        tops = [height - self.height(bar.shares[side], height) for bar in self.bars]
        steps = [f"V{top:.1f}H{(place + 1) * step:.1f}" for place, top in enumerate(tops)]
        return f"M0 {height:g}{''.join(steps)}V{height:g}"


def format_number(value: float) -> str:
    """Formats a number with four significant digits at least: 1,400,269,500, 12.45, 3.1e-07."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    size = abs(value)
    if (value == int(value) and size < 1e15) or 1e4 <= size < 1e15:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−", 1) if value < 0 else text


def draw(sides: Sequence[Distribution | None]) -> Chart | None:
    """Draws the chart of one feature; None when no side has values that were counted."""
    known = [side for side in sides if side is not None]
    together = merge(list(reversed(known)))  # the first side is the newest
    if kind(together) == "categories":
        return _draw_categories(
            [side if side and side.counts else None for side in sides], together
        )
    numbers = [
        side if side and side.knots is not None and len(side.knots) else None for side in sides
    ]
    if together.knots is None or not len(together.knots):
        return None
    if len(together.knots) <= POINTS:
        return _draw_points(numbers, together.knots)
    return _draw_histogram(numbers, together)


def _draw_categories(sides: Sequence[Distribution | None], together: Distribution) -> Chart:
    totals = [side.total if side else 0 for side in sides]
    greatest: dict[str, float] = {}
    for side, total in zip(sides, totals, strict=True):
        for label, count in (side.counts or {}).items() if side else ():
            greatest[label] = max(greatest.get(label, 0.0), count / total)
    # As many as there are are shown when that is only one more: a bar for one other says less than
    # its own.
    number = CATEGORIES if len(greatest) > CATEGORIES + 1 else CATEGORIES + 1
    shown = sorted(greatest, key=lambda label: (-greatest[label], label))[:number]
    if all(_is_whole_number(label) for label in shown):
        shown.sort(key=int)
    bars = [Bar(label, _shares([_count(side, label) for side in sides], totals)) for label in shown]
    rest = [
        side.total - sum(_count(side, label) for label in shown) if side else 0 for side in sides
    ]
    if any(rest):
        different = len(greatest) - len(shown)
        name = (
            f"{different:,} other values"
            if different and not together.capped
            else "all other values"
        )
        bars.append(Bar(name, _shares(rest, totals), rest=True))
    return replace(_chart(bars), categories=True)


def _is_whole_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _count(side: Distribution | None, label: str) -> int:
    return (side.counts or {}).get(label, 0) if side else 0


def _draw_points(sides: Sequence[Distribution | None], knots: FloatArray) -> Chart:
    totals = [_finite(side) for side in sides]
    rows = []
    for knot in knots.tolist():
        counts = [
            _up_to_value(side, knot, "right") - _up_to_value(side, knot, "left") for side in sides
        ]
        rows.append(Bar(format_number(knot), _shares(counts, totals)))
    return _chart(rows)


def _draw_histogram(sides: Sequence[Distribution | None], together: Distribution) -> Chart:
    low, high = _range(sides, together)
    edges = np.linspace(low, high, BINS + 1)
    totals = [_finite(side) for side in sides]
    reached = [_up_to(side, edges) for side in sides]
    bars = []
    for place, (start, end) in enumerate(itertools.pairwise(edges.tolist())):
        counts = [up_to[place + 1] - up_to[place] for up_to in reached]
        bars.append(Bar(f"{format_number(start)} to {format_number(end)}", _shares(counts, totals)))
    outside = _shares(
        [total - (r[-1] - r[0]) for r, total in zip(reached, totals, strict=True)], totals
    )
    return _chart(bars, low, high, outside)


def _chart(
    bars: list[Bar],
    low: float | None = None,
    high: float | None = None,
    outside: tuple[float | None, ...] = (),
) -> Chart:
    return Chart(
        bars,
        max((share or 0.0 for bar in bars for share in bar.shares), default=0.0),
        low,
        high,
        outside,
    )


def _range(sides: Sequence[Distribution | None], together: Distribution) -> tuple[float, float]:
    """Chooses the range, without the outermost values where they lie far from all others."""
    ends: list[float] = []
    for side in sides:
        if side is not None and side.knots is not None and side.cumulative is not None:
            shares = side.cumulative / side.cumulative[-1]
            places = np.searchsorted(shares, [OUTER, 1 - OUTER])
            ends += side.knots[np.minimum(places, len(side.knots) - 1)].tolist()
    assert together.knots is not None
    if min(ends) == max(ends):  # nearly all values are the same
        return float(together.knots[0]), float(together.knots[-1])
    least, greatest = float(together.knots[0]), float(together.knots[-1])
    low, high = min(ends), max(ends)
    far = (high - low) / 2
    return least if low - least <= far else low, greatest if greatest - high <= far else high


def _up_to(side: Distribution | None, edges: FloatArray) -> FloatArray:
    """Counts values below each edge; those on the last edge count as below it."""
    below = [_up_to_value(side, edge, "left") for edge in edges[:-1]]
    return np.array([*below, _up_to_value(side, edges[-1], "right")])


def _up_to_value(side: Distribution | None, value: float, end: Literal["left", "right"]) -> float:
    """Counts values below (left) or up to and at (right) a value."""
    if side is None or side.knots is None or side.cumulative is None:
        return 0.0
    place = int(np.searchsorted(side.knots, value, side=end))
    return float(side.cumulative[place - 1]) if place else 0.0


def _finite(side: Distribution | None) -> float:
    return (
        float(side.cumulative[-1])
        if side and side.cumulative is not None and len(side.cumulative)
        else 0.0
    )


def _shares(counts: Sequence[float], totals: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(
        float(count / total) if total else None for count, total in zip(counts, totals, strict=True)
    )
