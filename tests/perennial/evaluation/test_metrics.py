"""Metrics of a table.

Crosses, views and the serving distribution, beside scikit-learn's and TFMA's numbers.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from perennial.evaluation.groups import make_groups
from perennial.evaluation.metrics import measure
from perennial.tasks import METRICS, Task
from schemas.project import EvaluateSettings
from tests.components.evaluate_model.tfma_metrics import measure_by_tfma
from tests.forked import forked

TIPPED = Task("tipped", "binary", "l")


def make_table():
    """400 trips with two features, a view, weights and two models."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    scores = {
        name: np.clip(0.3 * labels + width * random.uniform(size=400), 0, 1)
        for name, width in MODELS.items()
    }
    return pd.DataFrame(
        {
            "label": labels,
            "slice:hour": random.choice(["1", "2"], 400),
            "slice:company": random.choice(["x", "y"], 400),
            "view:newest span": random.uniform(size=400) < 0.4,
            "weight": random.uniform(size=400) * 3,
            **{name: list(np.stack([1 - found, found], axis=1)) for name, found in scores.items()},
        }
    )


MODELS = {"new": 0.7, "champion": 0.9}
SETTINGS = EvaluateSettings(slices=["hour"], crosses=[["hour", "company"]])


@pytest.fixture(scope="module")
def measured():
    table = make_table()
    rows = measure(table, TIPPED, list(MODELS), make_groups(table, SETTINGS))
    return {(row.model, row.slice): row for row in rows}


def expected(table, model, weights=None):
    ones = np.stack(table[model])[:, 1]
    return {
        "accuracy": np.average((ones > 0.5) == table["label"], weights=weights),
        "log_loss": log_loss(table["label"], np.clip(ones, 1e-7, 1 - 1e-7), sample_weight=weights),
        "auc": roc_auc_score(table["label"], ones, sample_weight=weights),
    }


@pytest.mark.parametrize("model", MODELS)
def test_every_slice_cross_and_view_is_measured(measured, model):
    table = make_table()
    hour, company = table["slice:hour"], table["slice:company"]
    groups = {"overall": hour != "", "newest span": table["view:newest span"]}
    groups |= {f"hour={value}": hour == value for value in "12"}
    groups |= {f"hour={h}, company={c}": (hour == h) & (company == c) for h in "12" for c in "xy"}
    assert {where for of, where in measured if of == model} == {*groups, "serving distribution"}
    for where, rows in groups.items():
        row = measured[model, where]
        assert (row.examples, row.view, row.task) == (rows.sum(), where == "newest span", "tipped")
        assert row.values == pytest.approx(expected(table[rows], model), rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_serving_distribution_is_the_weighted_mean(measured, model):
    table, row = make_table(), measured[model, "serving distribution"]
    assert row.view and row.examples == 400
    assert row.values == pytest.approx(expected(table, model, table["weight"]), rel=1e-6)
    assert abs(row.values["accuracy"] - measured[model, "overall"].values["accuracy"]) > 1e-3


def make_kinds():
    """100 examples with a label and a prediction of each kind of task, in two slices."""
    random = np.random.default_rng(1)
    labels, classes, values = (
        random.integers(0, 2, 100),
        random.integers(0, 3, 100),
        random.normal(size=100),
    )
    return pd.DataFrame(
        {
            "slice:hour": random.choice(["1", "2"], 100),
            "label:binary": labels,
            "prediction:binary": np.clip(0.3 * labels + 0.7 * random.uniform(size=100), 0, 1),
            "label:multi_class": classes,
            "prediction:multi_class": list(random.dirichlet(np.ones(3), 100)),
            "label:regression": values,
            "prediction:regression": values + random.normal(size=100),
        }
    )


def test_numbers_are_those_of_tfma(tmp_path):
    table = make_kinds()
    oracle = forked(measure_by_tfma, table, "hour", tmp_path)
    ones = table["prediction:binary"]
    table["prediction:binary"] = list(np.stack([1 - ones, ones], axis=1))
    for kind in METRICS:
        columns = {
            f"label:{kind}": "label",
            f"prediction:{kind}": "model",
            "slice:hour": "slice:hour",
        }
        task, one = Task("task", kind, "l"), table[[*columns]].rename(columns=columns)
        for row in measure(
            one, task, ["model"], make_groups(one, EvaluateSettings(slices=["hour"]))
        ):
            expected = oracle.pop((kind, row.slice))
            assert row.examples == expected.pop("example_count")
            assert set(row.values) == set(expected)
            for metric, value in expected.items():
                # TFMA's AUC takes probabilities within 1/10,000 for ties.
                assert row.values[metric] == pytest.approx(
                    value, abs=2e-3 if metric == "auc" else 1e-5
                ), (kind, metric)
    assert not oracle
