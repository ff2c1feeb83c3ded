"""Permutation importance and what dropping features saves: known answers of linear models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.probe_model.importance import drop_cheapest, lose, measure_importances
from tests.components.probe_model.simulated import flag, linear, logistic


def importances(model, metric="mean_squared_error", repeats=10, costs=None):
    return {row.feature: row for row in measure_importances(model, metric, repeats, costs or {})}


def test_loss_of_a_linear_model_is_twice_the_variance_that_a_feature_adds():
    model = linear(np.random.default_rng(0), [3.0, 1.0, 0.0], examples=4000)
    found = importances(model)
    assert list(found) == ["a", "b", "c"]
    assert found["a"].loss == pytest.approx(18, rel=0.1) and found["b"].loss == pytest.approx(
        2, rel=0.2
    )
    for row in found.values():
        assert row.low <= row.loss <= row.high and row.cost is None


def test_ignored_feature_loses_nothing_for_certain():
    row = importances(linear(np.random.default_rng(0), [1.0, 0.0]))["b"]
    assert (row.loss, row.low, row.high) == (0.0, 0.0, 0.0)


def test_interval_of_a_feature_of_no_use_holds_zero_about_as_often_as_it_says():
    held = 0
    for seed in range(60):
        model = logistic(np.random.default_rng(seed), flag(0.5))
        row = importances(model, "log_loss", repeats=5)["suspect"]
        held += row.low <= 0 <= row.high
    assert held >= 51  # 95% of 60, less what chance takes in 1 of 1,000 tests


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "auc"])
def test_needed_feature_of_classes(metric):
    row = importances(logistic(np.random.default_rng(0), flag(0.5)), metric)["signal"]
    assert row.low > 0


def test_lost_area_is_that_of_scikit_learn():
    model = logistic(np.random.default_rng(1), flag(0.5))
    orders = []  # what `lose` gives the model, in three permutations

    def predict(columns):
        orders.append(columns["signal"])
        return model.predict(columns)

    lost = lose(replace(model, predict=predict), "auc", ["signal"], 3)
    areas = [
        roc_auc_score(model.labels, model.predict_with({"signal": o})[:, 1]) for o in orders[:3]
    ]
    own = roc_auc_score(model.labels, model.predictions[:, 1])
    assert lost.value == pytest.approx(own - np.mean(areas), abs=1e-9)


def test_area_of_one_class_is_not_made_up():
    model = logistic(np.random.default_rng(1), flag(0.5))
    alone = model.on(np.flatnonzero(model.labels == 1))
    assert all(
        np.isnan(row.loss) and np.isnan(row.low) for row in importances(alone, "auc").values()
    )


def test_clusters_widen_the_interval():
    model = linear(np.random.default_rng(0), [1.0], examples=40)
    ten = np.repeat(np.arange(40), 10)
    alone, together = model.on(ten), replace(model.on(ten), clusters=ten)
    wide = [row.high - row.low for row in (importances(one)["a"] for one in (alone, together))]
    assert wide[1] > 1.5 * wide[0]


def test_cheapest_contributors_go_first_and_together():
    model = linear(np.random.default_rng(0), [3.0, 1.0, 2.0, 1.0], examples=2000)
    costs = {"a": 1.0, "b": 4.0, "c": 1.0, "d": 0.0}
    rows = measure_importances(model, "mean_squared_error", 5, costs)
    drops = drop_cheapest(model, "mean_squared_error", 5, rows)
    assert [drop.features for drop in drops] == [["b"], ["b", "c"], ["b", "c", "a"]]
    assert [drop.saved for drop in drops] == [4.0, 5.0, 6.0]
    # Permuted together the losses add, because the features are independent: 2, 2 + 8, 2 + 8 + 18.
    assert [drop.loss for drop in drops] == pytest.approx([2, 10, 28], rel=0.15)
    assert all(drop.low <= drop.loss <= drop.high for drop in drops)
    assert drops[0].loss == next(row.loss for row in rows if row.feature == "b")


def test_features_that_are_permuted_together_stay_together():
    """Two halves of one sum that cancel.

    The model does not notice when both come from the same other example.
    """
    random = np.random.default_rng(0)
    model = linear(random, [1.0, -1.0], noise=0.0)
    same = replace(
        model, columns={"a": model.columns["a"], "b": model.columns["a"]}, labels=np.zeros(300)
    )
    assert lose(same, "mean_squared_error", ["a", "b"], 5).value == 0.0
    assert lose(same, "mean_squared_error", ["a"], 5).value > 1.0


def test_at_most_twelve_steps():
    model = linear(np.random.default_rng(0), [1.0] * 14)
    rows = measure_importances(model, "mean_absolute_error", 2, dict.fromkeys(model.columns, 1.0))
    drops = drop_cheapest(model, "mean_absolute_error", 2, rows)
    assert [len(drop.features) for drop in drops] == list(range(1, 13))


def test_without_costs_there_is_nothing_to_save():
    model = linear(np.random.default_rng(0), [1.0, 1.0])
    rows = measure_importances(model, "mean_absolute_error", 2, {})
    assert drop_cheapest(model, "mean_absolute_error", 2, rows) == []
