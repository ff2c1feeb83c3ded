"""Statistics combined from spans are TFDV's of the same examples in one dataset, feature by feature, field by field."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perennial.data.distributions import RANK_ERROR
from perennial.data.merge_statistics import LENGTH_RANK_ERROR
from tests.forked import forked
from tests.perennial.data import merge_jobs as jobs

# TFDV's quantiles err by 0.1% in these tests, and its equal-width histogram is drawn from a
# thousand of them.
TOLERANCE = RANK_ERROR + 0.001 + 0.001
SPANS = (1500, 40, 0, 700)
EQUAL = ("num_non_missing", "num_missing", "min_num_values", "max_num_values", "tot_num_values")
DOMAIN = [f"code {number:04d}" for number in range(1500)]


def make_rows(span: int, size: int) -> list[dict]:
    rng = np.random.default_rng(span)
    return [make_row(rng, span, number) for number in range(size)]


def make_row(rng, span, number):
    row = {
        "skewed": float(rng.lognormal(sigma=2)),
        "shifted": float(rng.normal(loc=3 * span)),
        "ties": float(rng.choice([0.0, 0.0, 0.0, 0.1, 7.5, rng.normal()])),
        "constant": 4.25,
        "whole": int(rng.integers(-5, 30)),
        "large": int(rng.integers(2**40)),
        "label": int(rng.integers(11)),
        "digit": int(rng.choice([9, 10, 1, 1])),
        "word": str(rng.choice(["a", "bb", "ccc", "é"], p=[0.5, 0.3, 0.1, 0.1])),
        "identifier": f"{span}-{number}",
        "code": DOMAIN[number % len(DOMAIN)],
        "bytes": b"\xff\xfe",
        "text": "long " * int(rng.integers(1, 400)),
        "image": rng.bytes(int(rng.integers(1, 90))),
        "many": rng.normal(size=15).tolist(),
        "tags": [str(tag) for tag in rng.integers(5, size=rng.integers(0, 4))],
        "list": rng.exponential(size=rng.integers(0, 40)).tolist(),
        "nothing": [],
        "partly": float(rng.choice([math.nan, 1.0, 2.0])),
    }
    if span:
        row |= {"late": str(rng.integers(3)), "late number": float(rng.normal())}
    if span == 0:
        row |= {"gone": "x", "gone number": 3, "NaN": math.nan}
    if rng.random() < 0.5:
        row |= {"half": float(rng.normal()), "half word": str(rng.integers(9))}
    return row


def make_schema():
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    values = " ".join(f'value: "{code}"' for code in DOMAIN)
    return text_format.Parse(
        'feature { name: "digit" type: INT int_domain { is_categorical: true } }'
        'feature { name: "image" type: BYTES image_domain {} }'
        f'feature {{ name: "code" type: BYTES string_domain {{ {values} }} }}',
        schema_pb2.Schema(),
    )


ROWS = [make_rows(span, size) for span, size in enumerate(SPANS)]
NAMES = sorted(ROWS[0][0].keys() | ROWS[1][0].keys() | {"half", "half word"})


def by_name(statistics):
    return {feature.path.step[0]: feature for feature in statistics.datasets[0].features}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    combined, whole = forked(
        jobs.combine_and_measure, ROWS, tmp_path_factory.mktemp("spans"), make_schema(), ("label",)
    )
    assert combined.datasets[0].num_examples == whole.datasets[0].num_examples == sum(SPANS)
    return by_name(combined), by_name(whole)


@pytest.fixture(params=NAMES)
def pair(request, both):
    return request.param, both[0][request.param], both[1][request.param]


def stats(feature):
    return getattr(feature, feature.WhichOneof("stats"))


def test_the_same_features_are_there(both):
    assert set(both[0]) == set(both[1]) == set(NAMES)


def test_common_statistics(pair):
    _, combined, whole = pair
    assert (combined.type, combined.WhichOneof("stats")) == (whole.type, whole.WhichOneof("stats"))
    ours, theirs = stats(combined).common_stats, stats(whole).common_stats
    assert [getattr(ours, name) for name in EQUAL] == [getattr(theirs, name) for name in EQUAL]
    assert ours.avg_num_values == pytest.approx(theirs.avg_num_values, rel=1e-6)


def test_number_of_values_in_an_example(pair):
    name, combined, whole = pair
    ours, theirs = (
        stats(feature).common_stats.num_values_histogram for feature in (combined, whole)
    )
    assert len(ours.buckets) == len(theirs.buckets) and ours.type == theirs.type
    values = [row.get(name) for rows in ROWS for row in rows]
    lengths = [
        len(value) if isinstance(value, list) else 1
        for value in values
        if value is not None and value != []
    ]
    check_ranks(ours, np.array(lengths, float), LENGTH_RANK_ERROR)


def test_numbers(pair):
    name, combined, whole = pair
    if not whole.HasField("num_stats"):
        return
    ours, theirs = combined.num_stats, whole.num_stats
    assert [ours.num_zeros, ours.min, ours.max] == [theirs.num_zeros, theirs.min, theirs.max]
    assert ours.mean == pytest.approx(theirs.mean, rel=1e-9, abs=1e-12)
    assert ours.std_dev == pytest.approx(theirs.std_dev, rel=1e-6, abs=1e-9)
    assert [h.num_nan for h in ours.histograms] == [h.num_nan for h in theirs.histograms]
    assert [h.type for h in ours.histograms] == [h.type for h in theirs.histograms]
    values = numbers(name)
    if len(values):
        below, up_to = (
            np.mean(values < np.float32(ours.median)),
            np.mean(values <= np.float32(ours.median)),
        )
        assert below - TOLERANCE <= 0.5 <= up_to + TOLERANCE
        check_ranks(ours.histograms[1], values, TOLERANCE)
        check_equal_width(ours.histograms[0], theirs.histograms[0], len(values))


def test_categories(pair):
    _, combined, whole = pair
    if not whole.HasField("string_stats"):
        return
    ours, theirs = combined.string_stats, whole.string_stats
    assert ours.invalid_utf8_count == theirs.invalid_utf8_count
    assert ours.avg_length == pytest.approx(theirs.avg_length, rel=1e-6)


def test_value_frequencies(pair):
    name, combined, whole = pair
    if not whole.HasField("string_stats") or name == "text":
        return
    ours, theirs = combined.string_stats, whole.string_stats
    assert ours.unique == theirs.unique
    assert list(ours.top_values) == list(theirs.top_values)
    ranked = (
        1500 if name == "code" else 1000
    )  # all values that have a domain, or as many as TFDV names
    assert list(ours.rank_histogram.buckets) == list(theirs.rank_histogram.buckets)[:ranked]


def test_long_text_is_not_kept_in_the_statistics(both):
    text, whole = (features["text"].string_stats for features in both)
    assert not text.top_values and not text.rank_histogram.buckets
    assert 0.9 * whole.unique < text.unique <= whole.unique  # the least that there can be


def test_bytes(both):
    (ours, theirs) = (features["image"].bytes_stats for features in both)
    for name in ("min_num_bytes", "max_num_bytes", "max_num_bytes_int", "unique"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.avg_num_bytes == pytest.approx(theirs.avg_num_bytes, rel=1e-6)


def numbers(name):
    """All numbers of a feature as TensorFlow holds them, without NaN."""
    found = [row[name] for rows in ROWS for row in rows if row.get(name) is not None]
    flat = np.array(
        [v for item in found for v in (item if isinstance(item, list) else [item])], np.float64
    )
    flat = flat if isinstance(found[0], int) else flat.astype(np.float32).astype(np.float64)
    return flat[~np.isnan(flat)]


def check_ranks(histogram, values, tolerance):
    """Every end of a bucket stands at its rank among the values, and the counts add up."""
    ends = [bucket.high_value for bucket in histogram.buckets]
    assert [bucket.low_value for bucket in histogram.buckets][1:] == ends[:-1]
    for place, end in enumerate(ends, start=1):
        rank = place / len(ends)
        assert np.mean(values < end) - tolerance <= rank <= np.mean(values <= end) + tolerance
    assert sum(bucket.sample_count for bucket in histogram.buckets) == pytest.approx(len(values))


def check_equal_width(ours, theirs, total):
    widths = [
        [(b.low_value, b.high_value) for b in histogram.buckets] for histogram in (ours, theirs)
    ]
    span = widths[1][-1][1] - widths[1][0][0]
    assert np.array(widths[0]) == pytest.approx(np.array(widths[1]), rel=1e-6, abs=1e-6 * span)
    shares = [
        np.cumsum([b.sample_count for b in histogram.buckets]) / total
        for histogram in (ours, theirs)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=TOLERANCE)


def test_a_changed_type_is_the_newest(tmp_path):
    spans = [
        [{"x": 1}, {"x": 2}],
        [{"x": "a", "y": 1.5}, {"x": "a"}, {"y": 2.0}],
        [{"y": math.inf}],
    ]
    measured = [
        forked(jobs.measure, rows, tmp_path / str(number)) for number, rows in enumerate(spans)
    ]
    combined = by_name(forked(jobs.combine, *map(list, zip(*measured, strict=True))))
    x, y = combined["x"], combined["y"].num_stats
    assert x.type == x.STRING and [(v.value, v.frequency) for v in x.string_stats.top_values] == [
        ("a", 2)
    ]
    assert (
        x.string_stats.common_stats.num_non_missing,
        x.string_stats.common_stats.num_missing,
    ) == (2, 4)
    assert (y.min, y.max, y.median, y.common_stats.num_missing) == (1.5, math.inf, 2.0, 3)
    assert [(b.low_value, b.sample_count) for b in y.histograms[0].buckets][-1] == (math.inf, 1)


def test_spans_without_examples(tmp_path):
    empty = forked(jobs.measure, [], tmp_path)
    combined = forked(jobs.combine, [empty[0]] * 2, [empty[1]] * 2)
    assert combined.datasets[0].num_examples == 0 and not combined.datasets[0].features
