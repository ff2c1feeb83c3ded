"""Groups compared.

Simulated groups that are alike and that are not, and what cannot be compared.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

from components.evaluate_model.fairness import compare_groups
from perennial.tasks import Task
from schemas.project import FairnessSettings

BINARY, CLASSES, VALUE = (
    Task("tip", kind, "tip") for kind in ("binary", "multi_class", "regression")
)
SIMULATIONS = 300


def settings(**changes):
    return FairnessSettings(features=["camera"], **changes)


def binary_frame(random, groups, error_rates, base=0.4):
    """Examples of a binary task: in each group the model errs this often.

    Scores follow from whether it is right.
    """
    label = (random.random(len(groups)) < base).astype(int)
    wrong = random.random(len(groups)) < error_rates
    sure = random.uniform(0.5, 1, len(groups))
    predicted = np.where(wrong, 1 - label, label)
    one = np.where(predicted == 1, sure, 1 - sure)
    return pd.DataFrame(
        {"slice:camera": groups, "label": label, "m": list(np.stack([1 - one, one], axis=1))}
    )


def test_groups_that_are_alike_are_flagged_in_at_most_one_of_twenty():
    random, flagged = np.random.default_rng(1), 0
    for _ in range(SIMULATIONS):
        frame = binary_frame(random, random.choice(["a", "b", "c"], 600), 0.2)
        found, _ = compare_groups(frame, BINARY, "m", settings(gap=0.0))
        flagged += bool(found.flagged)
    # Three standard errors above 5%.
    assert flagged <= SIMULATIONS * 0.05 + 3 * (SIMULATIONS * 0.05 * 0.95) ** 0.5


def test_a_planted_gap_of_15_points_is_found_in_at_least_19_of_20():
    random, found = np.random.default_rng(2), 0
    for _ in range(SIMULATIONS):
        groups = np.array(["new"] * 300 + ["old"] * 1500)
        frame = binary_frame(random, groups, np.where(groups == "new", 0.22, 0.07))
        fairness, _ = compare_groups(frame, BINARY, "m", settings())
        found += any(
            test.group == "new" and test.measure == "error_rate" for test in fairness.flagged
        )
    assert found >= SIMULATIONS * 0.95


def test_a_planted_gap_of_scores_or_of_errors_of_values_is_found():
    random = np.random.default_rng(3)
    groups = np.array(["new"] * 300 + ["old"] * 700)
    label = random.normal(size=1000)
    spread = np.where(groups == "new", 2.0, 1.0)
    frame = pd.DataFrame(
        {"slice:camera": groups, "label": label, "m": label + spread * random.normal(size=1000)}
    )
    found, notes = compare_groups(frame, VALUE, "m", settings(gap=0.15))
    assert found.score == "predicted value" and notes == []
    assert {(t.group, t.measure) for t in found.flagged} == {
        ("new", "absolute_error"),
        ("old", "absolute_error"),
    }
    (test,) = [t for t in found.tests if (t.group, t.measure) == ("new", "absolute_error")]
    assert test.value > 1.5 * test.rest and test.examples == 300


def test_numbers_are_those_of_scipy_and_corrected_for_all_tests():
    random = np.random.default_rng(4)
    groups = np.array(["new"] * 200 + ["old"] * 800)
    frame = binary_frame(random, groups, np.where(groups == "new", 0.3, 0.2))
    found, _ = compare_groups(frame, BINARY, "m", settings())
    tests = {(t.group, t.measure): t for t in found.tests}
    assert len(tests) == 8
    one, inside = np.stack(frame["m"])[:, 1], groups == "new"
    wrong = (one > 0.5) != frame["label"]
    expected = ks_2samp(one[inside], one[~inside], method="asymp")
    assert tests["new", "score"].gap == pytest.approx(expected.statistic)
    assert tests["new", "score"].value == pytest.approx(one[inside].mean())
    for measure, among in {
        "false_positive_rate": frame["label"] == 0,
        "false_negative_rate": frame["label"] == 1,
    }.items():
        test = tests["new", measure]
        assert (
            test.value == pytest.approx(wrong[inside & among].mean())
            and test.examples == (inside & among).sum()
        )
        assert test.rest == pytest.approx(wrong[~inside & among].mean())
        assert test.gap == pytest.approx(abs(test.value - test.rest))
    table = [
        [wrong[inside].sum(), wrong[~inside].sum()],
        [(~wrong)[inside].sum(), (~wrong)[~inside].sum()],
    ]
    p_value = chi2_contingency(table, correction=False).pvalue
    assert p_value <= tests["new", "error_rate"].p_value <= min(1.0, 8 * p_value)


def test_rare_errors_are_compared_exactly():
    groups = np.array(["new"] * 60 + ["old"] * 600)
    wrong = np.zeros(660, bool)
    wrong[:4] = True
    one = np.where(wrong, 0.9, 0.1)
    frame = pd.DataFrame(
        {"slice:camera": groups, "label": 0, "m": list(np.stack([1 - one, one], axis=1))}
    )
    found, notes = compare_groups(frame, BINARY, "m", settings())
    (test,) = [t for t in found.tests if (t.group, t.measure) == ("new", "error_rate")]
    p_value = fisher_exact([[4, 0], [56, 600]]).pvalue
    assert p_value <= test.p_value <= 6 * p_value  # six tests: there are no examples of class 1
    assert any(
        "false negative rate was not compared: 0 examples of class 1" in note for note in notes
    )


def test_scores_of_several_classes_are_those_of_the_true_class_and_missing_values_are_a_group():
    random = np.random.default_rng(6)
    scores = random.dirichlet([1, 1, 1], 300)
    label = random.integers(0, 4, 300)  # the model does not know class 3
    groups = np.array(["None"] * 100 + ["a"] * 200)
    frame = pd.DataFrame({"slice:camera": groups, "label": label, "m": list(scores)})
    found, _ = compare_groups(frame, CLASSES, "m", settings())
    assert {test.measure for test in found.tests} == {
        "score",
        "error_rate",
    } and found.score.endswith("true class")
    truth = np.where(label < 3, scores[np.arange(300), np.minimum(label, 2)], 0)
    rows = {row.group: row for row in found.scores}
    assert set(rows) == {"None", "a"} and rows["None"].examples == 100
    np.testing.assert_allclose(
        rows["None"].quantiles, np.quantile(truth[:100], np.linspace(0, 1, 21))
    )


def test_a_difference_within_the_tolerated_gap_is_not_flagged():
    groups = np.array(["a", "b"] * 5000)
    frame = binary_frame(np.random.default_rng(7), groups, np.where(groups == "a", 0.25, 0.2))
    found, _ = compare_groups(frame, BINARY, "m", settings(gap=0.1))
    (test,) = [t for t in found.tests if (t.group, t.measure) == ("a", "error_rate")]
    assert test.p_value < 0.05 and not test.flagged and found.flagged == []


def test_what_cannot_be_compared_is_named():
    groups = np.array(["large"] * 960 + ["small"] * 30 + ["tiny"] * 10)
    frame = binary_frame(np.random.default_rng(8), groups, 0.2).assign(**{"slice:site": "one"})
    found, notes = compare_groups(frame, BINARY, "m", FairnessSettings(features=["camera", "site"]))
    assert found.tests == [] and found.scores == []
    assert notes == [
        "fairness by `camera`: groups with fewer than 50 test examples were not compared: "
        "`small` (30), `tiny` (10)",
        "fairness by `camera`: fewer than 50 test examples are outside the group `large`",
        "fairness by `site`: all test examples are in the group `one`",
    ]


def test_nothing_is_compared_where_no_feature_is_named():
    assert compare_groups(pd.DataFrame(), BINARY, "m", FairnessSettings()) == (None, [])
