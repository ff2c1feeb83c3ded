"""The statistics view: one offline HTML page with a span's features beside the window's.

TFDV has a view of its own, Facets, which loads its code from a public host each time it is looked
at: without a network it is blank, and with one, looking at data calls out. This page needs nothing
from outside, and without scripts it only lacks searching and sorting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.validate_data.statistics_charts import Chart, draw, format_number
from perennial.data.distributions import Distribution, kind, most_frequent
from perennial.data.merge_statistics import feature_name
from perennial.schema.description import printable

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.statistics_pb2 import (
        DatasetFeatureStatisticsList,
        FeatureNameStatistics,
    )

LONGEST_VALUE = 48  # characters of a value that are shown
NOTHING = "–"
_NOT_UTF8 = "__BYTES_VALUE__"  # what TFDV calls a value that is not UTF-8
_TYPES = {
    "INT": "whole number",
    "FLOAT": "number",
    "STRING": "text",
    "BYTES": "bytes",
    "STRUCT": "structure",
}


@dataclass(frozen=True)
class Row:
    """One measure on each side."""

    name: str
    cells: list[str]


@dataclass(frozen=True)
class FeatureView:
    """One feature's part of the page."""

    name: str
    type: str
    missing: float  # share of the first side's examples, 0 to 1
    flag: str | None
    rows: list[Row]
    chart: Chart | None


@dataclass(frozen=True)
class _Side:
    """One feature on one side; without statistics where the side lacks it."""

    examples: int
    statistics: FeatureNameStatistics | None
    distribution: Distribution | None

    @property
    def common(self) -> Any:
        return (
            getattr(self.statistics, self.statistics.WhichOneof("stats")).common_stats
            if self.statistics
            else None
        )

    @property
    def missing(self) -> float:
        """Computes the share of the examples without the feature; 0 if there are no examples."""
        return (
            1 - (self.common.num_non_missing if self.common else 0) / self.examples
            if self.examples
            else 0.0
        )


def render_statistics(
    title: str,
    sides: Sequence[tuple[str, DatasetFeatureStatisticsList, Mapping[str, Distribution]]],
    flags: Mapping[str, str] | None = None,
) -> str:
    """Renders the page; the same arguments give the same bytes.

    Args:
        title: Heading of the page.
        sides: What is compared, the newest first: its name, its statistics and its distributions.
        flags: Feature -> what is wrong with it, such as drift; these come first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"value": show_value, "share": format_share, "number": format_number}
    names = [name for name, _, _ in sides]
    examples = [statistics.datasets[0].num_examples for _, statistics, _ in sides]
    features = view_features(sides, flags or {})
    template = environment.get_template("statistics_view.html")
    return template.render(title=title, names=names, examples=examples, features=features)


def view_features(
    sides: Sequence[tuple[str, DatasetFeatureStatisticsList, Mapping[str, Distribution]]],
    flags: Mapping[str, str],
) -> list[FeatureView]:
    """Prepares what is shown of each feature; those with flags first, then by name."""
    drawn = [
        {feature_name(f): f for f in statistics.datasets[0].features} for _, statistics, _ in sides
    ]
    names = sorted(
        {name for features in drawn for name in features},
        key=lambda name: (name not in flags, name),
    )
    views = []
    for name in names:
        here = [
            _Side(statistics.datasets[0].num_examples, features.get(name), distributions.get(name))
            for (_, statistics, distributions), features in zip(sides, drawn, strict=True)
        ]
        views.append(_view_feature(name, here, flags.get(name)))
    return views


def show_value(text: str) -> str:
    """Shortens a value from the data, and replaces characters that cannot be seen."""
    if text == _NOT_UTF8:
        return "(not UTF-8 text)"
    if not text.strip():
        return "(empty text)" if not text else f"({len(text)} × white space)"
    shown = printable(text[: LONGEST_VALUE + 1])
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 1]}…"


def format_share(share: float | None) -> str:
    """Formats a share; one above 0 is never shown as 0%, nor one below 1 as 100%."""
    if share is None:
        return NOTHING
    if 0 < share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    return f"{100 * share:.1f}%" if 0 < share < 1 else f"{100 * share:.0f}%"


def _view_feature(name: str, sides: Sequence[_Side], flag: str | None) -> FeatureView:
    newest = next(side for side in sides if side.statistics)
    shown = [_describe(side) for side in sides]
    titles = list(dict.fromkeys(title for rows in shown for title in rows))
    rows = [Row(title, [rows.get(title, NOTHING) for rows in shown]) for title in titles]
    types = list(
        dict.fromkeys(
            _type(side) for side in sides if side.statistics and side.common.tot_num_values
        )
    )
    chart = draw([side.distribution for side in sides])
    return FeatureView(
        name, ", before ".join(types) or _type(newest), sides[0].missing, flag, rows, chart
    )


def _type(side: _Side) -> str:
    if side.statistics is None:
        return NOTHING
    if not side.common.tot_num_values:
        return "no values"
    name = _TYPES[side.statistics.Type.Name(side.statistics.type)]
    counted = side.distribution is not None and kind(side.distribution) == "categories"
    return f"{name}, categories" if name == "whole number" and counted else name


def _describe(side: _Side) -> dict[str, str]:
    """Describes the measures of one side: title -> text."""
    rows = {"missing": format_share(side.missing) if side.examples else NOTHING}
    if side.statistics is None or not side.common.tot_num_values:
        return rows
    common = side.common
    if common.max_num_values > 1:
        least, mean, most = common.min_num_values, common.avg_num_values, common.max_num_values
        rows["values per example"] = (
            f"{mean:.4g} ({least:,}–{most:,})" if least < most else f"{most:,}"
        )
    if side.distribution is not None and kind(side.distribution) == "categories":
        return rows | _describe_categories(side.statistics, side.distribution)
    if side.statistics.HasField("num_stats"):
        return rows | _describe_numbers(side.statistics, side.distribution)
    if side.statistics.HasField("bytes_stats"):
        sizes = side.statistics.bytes_stats
        least, most = format_number(sizes.min_num_bytes), format_number(sizes.max_num_bytes)
        return rows | {
            "mean size": f"{format_number(round(sizes.avg_num_bytes, 1))} bytes",
            "sizes": f"{least}–{most} bytes",
        }
    texts = side.statistics.string_stats
    return rows | {
        "different values": f"{texts.unique:,}",
        "mean length": f"{texts.avg_length:.4g} bytes",
    }


def _describe_categories(
    statistics: FeatureNameStatistics, distribution: Distribution
) -> dict[str, str]:
    counts = distribution.counts or {}
    exact = statistics.string_stats.unique if statistics.HasField("string_stats") else len(counts)
    capped = " at least" if distribution.capped else ""
    rows = {"different values": f"{max(exact, len(counts)):,}{capped}"}
    for label, count in most_frequent(counts, 1):
        rows["most frequent"] = f"{show_value(label)} ({format_share(count / distribution.total)})"
    return rows


def _describe_numbers(
    statistics: FeatureNameStatistics, distribution: Distribution | None
) -> dict[str, str]:
    numbers = statistics.num_stats
    nans = numbers.histograms[0].num_nan if numbers.histograms else 0
    total = numbers.common_stats.tot_num_values
    rows: dict[str, str] = {}
    if total > nans:
        quarters = _quantiles(distribution, (0.25, 0.75)) or (NOTHING, NOTHING)
        rows |= {
            "mean": format_number(numbers.mean),
            "standard deviation": format_number(numbers.std_dev),
            "least": format_number(numbers.min),
            "first quarter up to": quarters[0],
            "median": format_number(numbers.median),
            "last quarter from": quarters[1],
            "greatest": format_number(numbers.max),
            "zeros": format_share(numbers.num_zeros / total),
        }
    return rows | ({"not a number": format_share(nans / total)} if nans else {})


def _quantiles(distribution: Distribution | None, ranks: Sequence[float]) -> tuple[str, ...] | None:
    if distribution is None or distribution.knots is None or distribution.cumulative is None:
        return None
    if not len(distribution.knots):
        return None
    places = np.searchsorted(distribution.cumulative, np.array(ranks) * distribution.cumulative[-1])
    return tuple(format_number(value) for value in distribution.knots[places])
