"""The statistics view needs nothing from outside, shows what was measured, and trusts no value."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from components.validate_data.statistics_charts import CATEGORIES, draw, format_number
from components.validate_data.statistics_view import format_share, render_statistics, show_value
from perennial.data.distributions import Distribution

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
VOID = {"meta", "input", "br"}


def of_numbers(values: list[float], examples: int = 0) -> Distribution:
    knots, counts = np.unique(np.array(values, np.float64), return_counts=True)
    size = max(examples, len(values))
    return Distribution(
        size, size - len(values), len(values), None, knots, np.cumsum(counts.astype(np.float64))
    )


def of_words(values: list[str]) -> Distribution:
    return Distribution(len(values), 0, len(values), dict(Counter(values)), None, None)


def side(name: str, examples: int, features: dict[str, Distribution]):
    statistics = pb.DatasetFeatureStatisticsList(
        datasets=[pb.DatasetFeatureStatistics(num_examples=examples)]
    )
    for feature, part in features.items():
        added = statistics.datasets[0].features.add()
        added.path.step.append(feature)
        added.type = added.FLOAT if part.knots is not None else added.STRING
        stats = added.num_stats if part.knots is not None else added.string_stats
        stats.common_stats.num_non_missing = part.examples - part.missing
        stats.common_stats.max_num_values = 1
        stats.common_stats.tot_num_values = part.total
        if part.knots is not None and len(part.knots):
            stats.min, stats.max, stats.mean, stats.median = (
                part.knots[0],
                part.knots[-1],
                41.5,
                17.25,
            )
        elif part.counts:
            stats.unique = len(part.counts)
    return name, statistics, features


FARES = of_numbers([1.0, 2.0, 2.0, 99.0], examples=8)
PAGE = render_statistics(
    "Statistics of span 2026-01-03",
    [
        side(
            "this span",
            8,
            {
                "fare": FARES,
                "kind": of_words(["cash"] * 6 + ["card"] * 2),
                "new": of_words([HOSTILE]),
            },
        ),
        side("the window", 4, {"fare": of_numbers([5.0] * 4), "kind": of_words(["cash"] * 4)}),
    ],
    {"kind": "drifted: L-infinity 0.25, threshold 0.1"},
)


class Text(HTMLParser):
    """What a reader sees, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script", "svg"} & set(self.open):
            self.seen.append(data.strip())


def read(page: str) -> str:
    text = Text(page)
    assert not text.open
    return " | ".join(part for part in text.seen if part)


def test_nothing_is_loaded_from_outside():
    text = Text(PAGE)
    assert not [
        value
        for name, value in text.attributes
        if name in ("src", "srcset", "action", "data", "xlink:href")
    ]
    assert all(value.startswith("#") for name, value in text.attributes if name == "href")
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(|fetch|XMLHttp", PAGE.replace("// Finding", "")
    )


def test_what_was_measured_is_shown():
    seen = read(PAGE)
    for expected in (
        "8 examples",
        "4 examples",
        "missing | 50.0% | 0%",
        "mean | 41.5 | 41.5",
        "median | 17.25",
    ):
        assert expected in seen
    assert (
        "greatest | 99 | 5" in seen
        and "different values | 2 | 1" in seen
        and "cash (75.0%)" in seen
    )


def test_what_is_flagged_comes_first_with_its_message():
    seen = read(PAGE)
    assert seen.index("drifted: L-infinity 0.25, threshold 0.1") < seen.index("41.5")
    assert re.findall(r'data-name="(\w+)"', PAGE) == ["kind", "fare", "new"]


def test_a_feature_that_one_side_lacks():
    assert "100%" in read(PAGE)[read(PAGE).index("| new |") :]


def test_nothing_from_the_data_becomes_markup():
    hostile = {HOSTILE: of_words([HOSTILE, "\u202eabc"])}
    page = render_statistics(HOSTILE, [side(HOSTILE, 2, hostile)], {HOSTILE: HOSTILE})
    assert page.count("<script") == 1 and "<img" not in page and "\u202e" not in page
    assert "onerror" not in {name for name, _ in Text(page).attributes}
    assert HOSTILE[:20] in read(page)


@pytest.mark.parametrize(
    "sides", [[side("this span", 0, {})], [side("a", 0, {}), side("b", 8, {"fare": FARES})]]
)
def test_spans_without_examples(sides):
    assert read(render_statistics("Nothing", sides))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain é", "plain é"),
        ("", "(empty text)"),
        ("  ", "(2 × white space)"),
        ("a\nb\x00", r"a\nb\x00"),
        ("__BYTES_VALUE__", "(not UTF-8 text)"),
        ("x" * 500, "x" * 47 + "…"),
        ("\0" * 500, r"\x00" * 11 + r"\x0…"),
    ],
)
def test_values_are_shown_safely(value, shown):
    assert show_value(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(None, "–"), (0, "0%"), (1e-9, "< 0.1%"), (0.5, "50.0%"), (0.9999, "> 99.9%"), (1, "100%")],
)
def test_shares(share, shown):
    assert format_share(share) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (1400269500, "1,400,269,500"),
        (12.45, "12.45"),
        (-0.5, "−0.5"),
        (3.1e-7, "3.1e-07"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers(number, shown):
    assert format_number(number) == shown


VALUES = st.lists(st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0, 2.5]), max_size=60)
WORDS = st.lists(st.text(st.sampled_from("abcdefghij"), min_size=1, max_size=2), max_size=60)


@given(st.one_of(*(st.tuples(values, values) for values in (VALUES, WORDS))))
def test_every_value_is_in_the_chart(sides):
    of = of_words if any(isinstance(v, str) for values in sides for v in values) else of_numbers
    chart = draw([of(values) for values in sides])
    if chart is None:
        assert not any(sides)
        return
    for place, values in enumerate(sides):
        drawn = [bar.shares[place] for bar in chart.bars] + list(chart.outside[place : place + 1])
        assert sum(share or 0 for share in drawn) == pytest.approx(1 if values else 0)
    assert all(
        0 <= share <= chart.top for bar in chart.bars for share in bar.shares if share is not None
    )


def test_few_outliers_do_not_squeeze_the_others():
    chart = draw([of_numbers([*np.linspace(0, 1, 999), 1e6])])
    assert chart.high <= 1 and 0 < chart.outside[0] < 0.01


def test_rare_categories_are_one_bar():
    chart = draw([of_words(["often"] * 9 + [f"once {number}" for number in range(20)])])
    assert (
        chart.bars[0].label == "often" and len(chart.bars) == CATEGORIES + 1 and chart.bars[-1].rest
    )
