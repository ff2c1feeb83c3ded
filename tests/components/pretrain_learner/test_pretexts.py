"""What a pretext shows and what it asks: the answer is true, and as much is hidden as is said."""

from __future__ import annotations

import numpy as np
import pytest

from tests.components.pretrain_learner.jobs import ask_everything, large_image
from tests.forked import forked


@pytest.fixture(scope="module")
def asked():
    return forked(ask_everything)


def test_images_are_turned_as_often_as_the_answer_says(asked):
    given, seen, answer = asked["rotation"]
    for before, after, turns in zip(given["x"], seen["x"], answer["turns"], strict=True):
        np.testing.assert_array_equal(np.rot90(before, turns), after)
    assert set(answer["turns"]) == {0, 1, 2, 3} and (answer["weight"] == 1).all()


def test_a_share_of_the_patches_is_masked(asked):
    given, seen, answer = asked["masked_image"]
    masked = (seen["x"] != given["x"]).any(axis=-1)  # [n, 8, 8]
    patches = masked.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 4)
    assert (patches.all(axis=2) == patches.any(axis=2)).all()  # whole patches of 2 x 2 pixels
    assert (patches.any(axis=2).sum(axis=1) == 4).all()  # a quarter of 16
    assert (seen["x"][masked] == -1).all()  # the mean
    assert len(np.unique(masked, axis=0)) > 10
    np.testing.assert_array_equal(answer["counted"][..., 0] == 1, masked)
    np.testing.assert_allclose(answer["pixels"], (given["x"] + 1) / 2)
    assert (answer["weight"] == 4 * 4 * 3).all()


def test_large_images_are_asked_for_in_less_detail():
    seen, answer = forked(large_image)
    assert (
        seen.dtype == np.int64
        and answer["pixels"].shape == (3, 32, 32, 1) == answer["counted"].shape
    )
    # As much of the image is asked for as was masked, but for the patches that its edge cuts.
    assert answer["counted"].mean() == pytest.approx((seen == 0).mean(), abs=0.06)
    assert 0.4 < (seen == 0).mean() < 0.6


def test_a_share_of_the_words_is_masked(asked):
    given, seen, answer = asked["masked_words"]
    present = (given["x"] > 0).sum(axis=1)
    hidden = seen["x"] != given["x"]
    assert (seen["x"][hidden] == 0).all() and (given["x"][hidden] > 0).all()
    expected = np.where(present, np.maximum(1, np.round(0.3 * present)), 0)
    assert (hidden.sum(axis=1) == expected).all()
    for row in range(len(present)):
        chosen = answer["places"][row][: int(expected[row])]
        assert set(chosen) == set(np.flatnonzero(hidden[row]))
        known = [
            place for place in chosen if given["x"][row][place] < 500
        ]  # later words are not asked for
        assert answer["weight"][row] == len(known) == answer["counted"][row].sum()
        for place in known:
            position = list(answer["places"][row]).index(place)
            assert (
                answer["words"][row][position] == given["x"][row][place]
                and answer["counted"][row][position] == 1
            )


def test_a_share_of_the_features_is_masked_by_values_of_others(asked):
    given, seen, answer = asked["masked_features"]
    fare, hour = answer["fare/counted"] == 1, answer["hour/counted"] == 1
    assert (
        (fare ^ hour).all() and 5 < fare.sum() < 35 and (answer["weight"] == 1).all()
    )  # one of two, at random
    for name, masked in (("fare", fare), ("hour", hour)):
        assert (seen[name][~masked] == given[name][~masked]).all()
        assert (seen[name][masked] != given[name][masked]).mean() > 0.8 and set(
            seen[name].ravel()
        ) <= set(given[name].ravel())
    np.testing.assert_allclose(answer["fare"][:, 0], (given["fare"] - 39) / 23, rtol=1e-6)
    np.testing.assert_array_equal(answer["hour"], given["hour"])
