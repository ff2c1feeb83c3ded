"""Drawing examples for labels: exact chances, spread, and a live metric without bias."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.production.label_queue import (
    QueueShares,
    draw,
    give_chances,
    measure_disagreement,
    measure_uncertainty,
)

SHARES = QueueShares()


def test_uncertainty_is_what_the_second_class_lacks():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.6, 0.3, 0.1]])
    assert measure_uncertainty(probabilities).tolist() == pytest.approx([0.0, 1.0, 0.7])


def test_disagreement_of_classes_and_of_values():
    one, other = np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.1, 0.9], [0.5, 0.5]])
    assert measure_disagreement(one, other).tolist() == pytest.approx([0.8, 0.0])
    apart = measure_disagreement(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 4.0]))
    assert apart.tolist() == [0.0, 1.0, 0.5]
    assert measure_disagreement(np.ones(2), np.ones(2)).tolist() == [0.0, 0.0]


@given(
    uncertainty=st.lists(st.floats(0, 1), min_size=2, max_size=60),
    count=st.integers(1, 70),
    challenged=st.booleans(),
)
def test_every_example_has_a_chance_and_they_sum_to_the_labels(uncertainty, count, challenged):
    values = np.array(uncertainty)
    chances = give_chances(count, values, values[::-1] if challenged else None, SHARES)
    assert chances.sum() == pytest.approx(min(count, len(values)))
    assert (chances <= 1).all()
    assert (chances >= min(1, SHARES.random * count / len(values)) - 1e-9).all()


def test_where_the_models_differ_half_of_the_labels_go():
    uncertainty = np.full(1000, 0.5)
    disagreement = np.zeros(1000)
    disagreement[:100] = 0.4
    chances = give_chances(50, uncertainty, disagreement, SHARES)
    assert chances[:100].sum() == pytest.approx(0.5 * 50 + 0.5 * 5)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 80), count=st.integers(1, 40))
def test_as_many_are_drawn_as_asked_and_none_twice(seed, size, count):
    rng = np.random.default_rng(seed)
    chances = give_chances(count, rng.random(size) ** 3, None, SHARES)
    places = rng.integers(0, 3, (size, 2))  # many lie in one place
    drawn = draw(chances, places, rng)
    assert len(drawn) == len(set(drawn.tolist())) == min(count, size)


def test_each_example_is_drawn_as_often_as_its_chance_says():
    rng = np.random.default_rng(5)
    places = rng.normal(size=(30, 2))
    chances = give_chances(8, rng.random(30) ** 2, rng.random(30) ** 8, SHARES)
    rounds = 2000
    often = np.zeros(30)
    for _ in range(rounds):
        often[draw(chances, places, rng)] += 1
    errors = (often - rounds * chances) / np.sqrt(rounds * chances * (1 - chances) + 1e-12)
    assert np.abs(errors).max() < 4  # of 30 binomial counts


def test_near_duplicates_are_not_drawn_together():
    rng = np.random.default_rng(6)
    centres = rng.normal(size=(20, 2)) * 100
    places = np.repeat(centres, 10, axis=0) + rng.normal(size=(200, 2))
    for _ in range(20):
        drawn = draw(np.full(200, 0.1), places, rng)
        assert len(set((drawn // 10).tolist())) >= 18  # chance alone would give 13


def test_the_weighted_metric_has_no_bias_and_the_plain_one_has():
    rng = np.random.default_rng(7)
    sure = rng.random(400)
    right = rng.random(400) < 0.5 + 0.5 * sure
    places = sure[:, None]
    chances = give_chances(40, 1 - sure, None, SHARES)
    weighted, plain = [], []
    for _ in range(200):
        drawn = draw(chances, places, rng)
        weighted.append(np.average(right[drawn], weights=1 / chances[drawn]))
        plain.append(right[drawn].mean())
    error = np.std(weighted) / np.sqrt(len(weighted))
    assert abs(np.mean(weighted) - right.mean()) < 4 * error
    assert np.mean(plain) < right.mean() - 0.05
