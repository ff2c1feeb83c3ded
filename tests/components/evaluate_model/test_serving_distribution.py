"""Re-weighting to serving.

On simulated data, whose truth is known, and on the log of a real project.
"""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from components.evaluate_model.covariate_shift import encode_feature, estimate_ratio
from components.evaluate_model.label_shift import estimate_shares
from components.evaluate_model.serving_distribution import weigh_by_labels
from perennial.errors import NotComparedError
from perennial.evaluation.bootstrap import effective_number
from tests.chain import with_settings
from tests.components.evaluate_model import shift_jobs
from tests.forked import forked
from tests.kinds import copy_kind_project

SEEDS = range(12)
# Nine classes are told in 98 of 100 cases, the tenth in 70.
ACCURACIES = np.array([0.98] * 9 + [0.7])
MOSTLY_TENTH = np.array([0.2 / 9] * 9 + [0.8])
BALANCED = np.full(10, 0.1)


def predict(random, labels, wrong):
    """Predicted classes; a wrong one is any of the others."""
    return np.where(wrong, (labels + random.integers(1, 10, len(labels))) % 10, labels)


def measured_split(random, examples):
    """A balanced test split on which the model has just these accuracies: overall 95.2%."""
    labels = np.repeat(np.arange(10), examples // 10)
    places = np.tile(np.arange(examples // 10), 10)
    wrong = places >= np.round(ACCURACIES[labels] * examples / 10)
    return labels, predict(random, labels, wrong)


def drawn(random, shares, examples):
    """Examples of classes that come so often, and what the model predicts."""
    labels = random.choice(10, examples, p=shares)
    return labels, predict(random, labels, random.random(examples) > ACCURACIES[labels])


@pytest.mark.parametrize("examples, requests", [(2000, 2000), (5000, 2000), (5000, 5000)])
def test_known_case_of_ten_classes(examples, requests):
    truth = float(MOSTLY_TENTH @ ACCURACIES)
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        labels, predicted = measured_split(random, examples)
        assert (labels == predicted).mean() == pytest.approx(0.952)
        _, requested = drawn(random, MOSTLY_TENTH, requests)
        found = weigh_by_labels(labels, predicted, requested)
        assert abs(np.average(labels == predicted, weights=found.weights) - truth) < 0.02
        assert (
            found.record.served["9"] == pytest.approx(0.8, abs=0.06)
            and found.record.tested["9"] == 0.1
        )
        assert found.record.requests == requests and found.record.method == "label_shift"
        assert found.weights.mean() == pytest.approx(1) and len(found.weights) == examples


def test_resampling_tells_how_uncertain_the_weights_are():
    """The test split's own noise is part of the truth that is not known.

    The interval must hold that truth.
    """
    truth, held, errors = float(MOSTLY_TENTH @ ACCURACIES), 0, []
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels, predicted = drawn(random, BALANCED, 3000)
        found = weigh_by_labels(labels, predicted, drawn(random, MOSTLY_TENTH, 2000)[1])
        right, accuracies = labels == predicted, []
        for _ in range(200):
            rows = random.integers(0, len(labels), len(labels))
            accuracies.append(np.average(right[rows], weights=found.resample(random, rows)))
        low, high = np.quantile(accuracies, [0.025, 0.975])
        held += low <= truth <= high
        errors.append(np.average(right, weights=found.weights) - truth)
    # Fewer than 52 of 60 happens once in 100 times where the true coverage is 95%.
    assert held >= 52
    assert abs(np.mean(errors)) < 0.015


def test_without_shift_the_weights_are_near_one():
    random = np.random.default_rng(1)
    labels, predicted = drawn(random, BALANCED, 5000)
    found = weigh_by_labels(labels, predicted, drawn(random, BALANCED, 5000)[1])
    assert np.abs(found.weights - 1).max() < 0.25 and found.record.effective > 4800


def test_rare_classes_do_not_look_like_ones_that_cannot_be_told_apart():
    random, shares = np.random.default_rng(2), np.array([0.91] + [0.01] * 9)
    labels, predicted = drawn(random, shares, 5000)
    found = estimate_shares(labels, predicted, drawn(random, BALANCED, 3000)[1])
    np.testing.assert_allclose(found.served, BALANCED, atol=0.07)


@pytest.mark.parametrize(
    "labels, predicted, requested, why",
    [
        ([0, 1] * 500, [0, 1] * 500, [0] * 99, "there are 99 served requests, fewer than 100"),
        (
            [0] * 500 + [1] * 9,
            [0] * 500 + [1] * 9,
            [1] * 200,
            "fewer than 10 test examples.*: 1 \\(9\\)",
        ),
        ([0, 1] * 500, [0, 1] * 500, [0, 2] * 100, "fewer than 10 test examples.*: 2 \\(0\\)"),
        (
            [0, 0, 1, 1] * 250,
            [0, 1] * 500,
            [0, 1] * 100,
            "tell the classes apart too little.* is 0.000",
        ),
        # The model never predicts class 2, so requests of it cannot be seen.
        ([0, 1, 2] * 300, [0, 1, 1] * 300, [0, 1] * 100, "tell the classes apart too little"),
    ],
)
def test_shares_that_cannot_be_told_are_refused(labels, predicted, requested, why):
    with pytest.raises(NotComparedError, match=why):
        estimate_shares(np.array(labels), np.array(predicted), np.array(requested))


def columns(x, color):
    return {"x": [[float(v)] for v in x], "color": [[str(c).encode()] for c in color]}


def test_covariate_shift_of_a_model_that_is_worse_where_production_goes():
    """The model is right less often the greater x is and in `red`; production has more of both."""
    raw, errors, requests = [], [], 2000
    for seed in SEEDS[:8]:
        random = np.random.default_rng(seed)
        x, red = random.normal(0, 1, 3000), random.random(3000) < 0.3
        x_served, red_served = random.normal(0.8, 0.9, requests), random.random(requests) < 0.6

        def accuracy(x, red):
            return 0.95 - 0.3 / (1 + np.exp(-3 * (x - 1))) - 0.1 * red

        right = random.random(3000) < accuracy(x, red)
        found = estimate_ratio(columns(x, red), columns(x_served, red_served))
        truth = float(
            accuracy(random.normal(0.8, 0.9, 200_000), random.random(200_000) < 0.6).mean()
        )
        errors.append(np.average(right, weights=found.weights) - truth)
        raw.append(right.mean() - truth)
        assert found.weights.mean() == pytest.approx(1) and found.unused == {}
    assert min(raw) > 0.07 and np.abs(errors).max() < 0.03 and abs(np.mean(errors)) < 0.01


def test_without_covariate_shift_the_weights_are_near_one():
    random = np.random.default_rng(4)
    tested, requested = (
        {
            **columns(random.normal(size=n), random.random(n) < 0.3),
            "pixels": random.random((n, 64)).tolist(),
        }
        for n in (2000, 3000)
    )
    found = estimate_ratio(tested, requested)
    assert np.abs(found.weights - 1).max() < 0.4 and effective_number(found.weights) > 1900


def test_images_are_told_apart_by_their_pixels():
    random = np.random.default_rng(5)
    dark = random.random(2000) < 0.2
    tested = {"image": (random.random((2000, 100)) * np.where(dark, 0.5, 1.0)[:, None]).tolist()}
    requested = {
        "image": (
            random.random((1000, 100)) * np.where(random.random(1000) < 0.6, 0.5, 1.0)[:, None]
        ).tolist()
    }
    found = estimate_ratio(tested, requested)
    assert np.average(dark, weights=found.weights) == pytest.approx(0.6, abs=0.06)


def test_features_that_cannot_be_used_are_named():
    random = np.random.default_rng(6)
    rows = {
        "number": [[float(v)] for v in random.normal(size=300)],
        "essay": [[b"word " * 20]] * 300,
        "large": [[0.0] * 1025] * 300,
        "ragged": [[1.0] * (1 + n % 3) for n in range(300)],
        "unsent": [[1.0]] * 300,
    }
    found = estimate_ratio(rows, rows | {"unsent": [None] * 300})
    assert found.unused == {
        "essay": "its values are texts or bytes longer than 64",
        "large": "its values are vectors of 1025 numbers, more than 1024",
        "ragged": "its values are lists of 1 to 3 numbers",
        "unsent": "no request has it",
    }
    why = (
        "no feature that clients send can be used (`essay`: its values are texts or bytes longer "
        "than 64)"
    )
    with pytest.raises(NotComparedError, match=re.escape(why)):
        estimate_ratio({"essay": rows["essay"]}, {"essay": rows["essay"]})


def test_missing_values_are_marked_and_rare_categories_share_none():
    rows = [[b"a"], [b"b"], None, [b"a", b"b"], []]
    found = encode_feature(rows, rows)
    assert found.shape == (10, 3) and (found[2] == found[4]).all()
    assert found[2, 2] > 0 > found[0, 2]
    many = [[str(n).encode()] for n in range(80)]
    assert encode_feature(many, many).shape == (160, 50)
    constant = encode_feature([[3.0]] * 4, [[3.0]] * 4)
    assert constant.shape == (8, 0)


HEADER = ["sex", "age", "bmi", "ltg", "pressure"]


def write_log(project, rows):
    (project.folder / "log").mkdir(exist_ok=True)
    (project.folder / "log" / "2026-01-02.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )


@pytest.fixture(scope="module")
def patients(kinds):
    path = kinds["binary"].project.folder / "data" / "2026-01-01.csv"
    with path.open() as file:
        return list(csv.DictReader(file))


def as_request(row):
    return {name: float(row[name]) for name in HEADER if row[name]} | {"sex": int(row["sex"])}


@pytest.fixture
def reweigh(kinds, tmp_path):
    def run(kind, method, rows, least=10.0, log="log/*.jsonl"):
        project = copy_kind_project(kinds[kind], tmp_path / kind)
        if rows is not None:
            write_log(project, rows)
        project = with_settings(project, "evaluate", serving=method, least_effective=least)
        project = with_settings(project, "data", serving_log=log)
        return forked(shift_jobs.reweigh, project, kinds[kind])

    return run


def test_a_real_log_of_mostly_severe_patients_weighs_them_more(reweigh, patients):
    severe = [row for row in patients if float(row["progression"]) > 140]
    other = [row for row in patients if float(row["progression"]) <= 140]
    rows = [as_request(row) for row in (severe * 3 + other)]
    # One lacks what the model needs, one has what no feature can be.
    found = reweigh("binary", "label_shift", [*rows, {"sex": 1}, {**rows[0], "age": "old"}])
    share = 3 * len(severe) / len(rows)
    assert (
        found["served"]["1"] == pytest.approx(share, abs=0.12)
        and found["served"]["1"] > found["tested"]["1"] + 0.1
    )
    assert found["requests"] == len(rows) and found["effective"] > 10
    assert found["notes"] == [
        f"2 of {len(rows) + 2:,} served requests were left out: the model has no answer to them"
    ]
    assert found["mean"] == pytest.approx(1) and found["severe"] > found["other"]


def test_a_real_log_of_mostly_heavy_patients_weighs_them_more(reweigh, patients):
    heavy = [row for row in patients if float(row["bmi"]) > 28]
    found = reweigh(
        "regression", "covariate_shift", [as_request(row) for row in (heavy * 3 + patients)]
    )
    assert found["method"] == "covariate_shift" and found["heavy"] > 1.2 > 1 > found["light"]
    assert found["served"] == {} and found["notes"] == []


@pytest.mark.parametrize(
    "kind, method, rows, options, why",
    [
        (
            "regression",
            "label_shift",
            [],
            {},
            "label_shift is of classes, and `progression` is a regression",
        ),
        ("binary", "none", [], {}, "project.yaml sets evaluate.serving: none"),
        ("binary", "label_shift", None, {}, "no serving log: no file matches log/*.jsonl"),
        (
            "binary",
            "label_shift",
            None,
            {"log": None},
            "no serving log: project.yaml sets no data.serving_log",
        ),
        ("binary", "covariate_shift", [], {}, "no serving log: no requests in log/*.jsonl"),
        (
            "binary",
            "label_shift",
            [{"age": 3.0}] * 200,
            {},
            "no served request has all features that the model needs",
        ),
        (
            "binary",
            "label_shift",
            "all",
            {"least": 1000.0},
            "below evaluate.least_effective (1000)",
        ),
    ],
)
def test_what_stands_in_the_way_is_told(reweigh, patients, kind, method, rows, options, why):
    found = reweigh(
        kind, method, [as_request(row) for row in patients] if rows == "all" else rows, **options
    )
    assert found.startswith("metrics were not re-weighted to serving: ") and why in found
