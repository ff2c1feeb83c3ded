"""Labels that are probably wrong, on the digits, by models that did not learn them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_predict

from perennial.production.suspect_labels import rank_suspects

FLIPS = 90  # one label in twenty


@pytest.fixture(scope="module")
def digits():
    """Labels with planted flips, out-of-fold probabilities of the classes, and the flipped rows."""
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(8)
    wrong = rng.choice(len(labels), FLIPS, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, FLIPS)) % 10
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    return labels, cross_val_predict(model, images, labels, cv=3, method="predict_proba"), wrong


def test_planted_flips_are_found_and_few_others(digits):
    labels, probabilities, wrong = digits
    suspects = rank_suspects(labels, probabilities)
    found = set(suspects) & set(wrong.tolist())
    assert len(found) >= 0.8 * FLIPS
    assert len(found) >= 0.5 * len(suspects)


def test_the_worst_come_first_and_none_is_what_the_model_would_say(digits):
    labels, probabilities, _ = digits
    suspects = rank_suspects(labels, probabilities)
    chances = probabilities[suspects, labels[suspects]]
    assert (np.diff(chances) >= 0).all()
    assert (probabilities[suspects].argmax(axis=1) != labels[suspects]).all()


def test_classes_without_a_label_are_left_out():
    labels = np.array([0, 0, 2, 2, 2, 0])
    sure = np.array([[0.9, 0.05, 0.05], [0.05, 0.05, 0.9]])
    probabilities = np.vstack([sure[[0, 0, 1, 1, 1]], sure[1]])
    assert rank_suspects(labels, probabilities) == [5]


def test_where_all_labels_are_alike_nothing_is_told():
    assert rank_suspects(np.ones(4, int), np.full((4, 2), 0.5)) == []
