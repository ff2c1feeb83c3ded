"""Values are counted exactly while that is cheap, and within the stated error beyond."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perennial.data.distributions import KNOTS, RANK_ERROR, SKETCH_ERROR, kind
from tests.components.compute_statistics import jobs
from tests.forked import forked

BATCHES = [
    {
        "word": [[b"a"], [b"b", b"a"], None],
        "number": [[1.5], [math.nan, math.inf], [1.5, -2.0]],
        "class": [[1], [2], [1]],
        "image": [[b"\x00"], [b"\x01"], [b"\x01"]],
        "bytes": [[b"\xff"], [b"\xfe"], [b"a"]],
        "text": [[b"x" * 1025], [b"x"], [b"x"]],
        "nothing": [None, None, None],
    },
    {"word": [[b"b"]], "class": [None], "text": [[b"x"]], "late": [[7]]},
]


@pytest.fixture(scope="module", params=[1, 2])
def counted(request):
    return forked(jobs.count, BATCHES, ["image"], ["class"], request.param)


@pytest.fixture(scope="module")
def shapes():
    return forked(jobs.count_shapes, 30_000, 3)


def test_every_feature_is_measured_over_all_examples(counted):
    assert {part.examples for part in counted.values()} == {4}
    assert {name: (part.missing, part.total) for name, part in counted.items()} == {
        "bytes": (1, 3),
        "class": (1, 3),
        "image": (1, 3),
        "late": (3, 1),
        "nothing": (4, 0),
        "number": (1, 5),
        "text": (0, 4),
        "word": (1, 4),
    }


def test_categories_are_counted_one_by_one(counted):
    assert counted["word"].counts == {"a": 2, "b": 2}
    assert counted["class"].counts == {"1": 2, "2": 1}
    assert not counted["word"].capped


def test_numbers_that_are_not_finite_stand_at_no_knot(counted):
    number = counted["number"]
    assert (
        number.knots.tolist() == [-2.0, 1.5]
        and number.cumulative.tolist() == [1.0, 3.0]
        and number.total == 5
    )


def test_bytes_that_are_no_text_count_as_one_value(counted):
    assert counted["bytes"].counts == {"__BYTES_VALUE__": 2, "a": 1}


def test_images_long_text_and_nothing_are_not_counted(counted):
    assert all(kind(counted[name]) is None for name in ("image", "text", "nothing"))


def test_the_commonest_categories_are_kept_beyond_the_cap():
    words = (
        [[b"often"]] * 5
        + [[b"sometimes"]] * 3
        + [[f"once {number}".encode()] for number in range(50)]
    )
    part = forked(jobs.count_with_cap, [{"x": words[start::3]} for start in range(3)], 4)["x"]
    assert len(part.counts) == 4 and part.capped and part.total == 58
    assert (part.counts["often"], part.counts["sometimes"]) == (5, 3)


def test_few_different_numbers_are_counted_exactly(shapes):
    values, part = shapes["few"]
    knots, counts = np.unique(values, return_counts=True)
    assert np.array_equal(part.knots, knots) and np.array_equal(part.cumulative, np.cumsum(counts))


@pytest.mark.parametrize(
    "shape", ["normal", "skewed", "ties", "sorted", "few", "one more than few"]
)
def test_ranks_err_less_than_stated(shapes, shape):
    values, part = shapes[shape]
    assert (
        len(part.knots) <= KNOTS
        and np.all(np.diff(part.knots) > 0)
        and np.all(np.diff(part.cumulative) > 0)
    )
    assert (part.knots[0], part.knots[-1], part.cumulative[-1]) == (
        values.min(),
        values.max(),
        len(values),
    )
    points = np.sort(values)
    true = np.searchsorted(points, points, side="right") / len(values)
    stated = np.append(0.0, part.cumulative)[
        np.searchsorted(part.knots, points, side="right")
    ] / len(values)
    assert np.max(true - stated) <= RANK_ERROR and np.max(stated - true) <= SKETCH_ERROR


def test_a_repeated_value_stands_at_its_last_rank(shapes):
    values, part = shapes["ties"]
    for tie in (0.0, 3.0):
        stated = part.cumulative[part.knots.tolist().index(tie)]
        assert abs(stated - np.sum(values <= tie)) <= SKETCH_ERROR * len(values)
