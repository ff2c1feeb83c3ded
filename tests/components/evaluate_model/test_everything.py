"""Evaluation with everything switched on, through Kubeflow's wrapper.

What the dashboard is given.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from perennial.evaluation.bootstrap import mean_interval
from perennial.project import load_project
from tests.components.evaluate_model.jobs import run_wrapper
from tests.components.evaluate_model.test_views import validation
from tests.forked import forked
from tests.kinds import SPAN, copy_kind_project

EVALUATE = {
    "slices": ["sex"],
    "crosses": [["sex", "age"]],
    "least_examples": 20,
    "group": "pressure",
    "serving": "label_shift",
    "least_effective": 5,
    "fairness": {"features": ["sex"], "least_examples": 20},
}
GATE = {"metric": "accuracy", "repeats": 2, "distribution": "serving"}


def reset(kind, folder, **changes):
    """The kind's project with other settings and a log of requests, mostly of patients who are severely ill."""
    project = copy_kind_project(kind, folder)
    settings = yaml.safe_load((folder / "project.yaml").read_text())
    for section, values in changes.items():
        settings[section] |= values
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    patients = pd.read_csv(folder / "data" / f"{SPAN}.csv")
    ill, well = (
        patients[rows] for rows in (patients["progression"] > 140, patients["progression"] <= 140)
    )
    asked = pd.concat(
        [ill.sample(400, replace=True, random_state=1), well.sample(100, random_state=1)]
    )
    asked.drop(columns=["id", "progression"]).to_csv(folder / "served.csv", index=False)
    return load_project(project.folder)


@pytest.fixture(scope="module")
def shown(kinds, tmp_path_factory):
    """What the wrapper makes of a binary task with everything switched on."""
    folder = tmp_path_factory.mktemp("everything")
    project = reset(
        kinds["binary"],
        folder / "project",
        data={"serving_log": "served.csv"},
        evaluate=EVALUATE,
        gate=GATE,
    )
    validation(**{SPAN: [("drift", "age", "failed")]}).write(folder / "validation")
    return forked(run_wrapper, project, kinds["binary"], folder, folder / "validation")


@pytest.fixture(scope="module")
def table(shown):
    return pd.read_parquet(shown.folder / "evaluation" / "predictions.parquet")


def accuracy(table, model):
    return np.stack(table[model]).argmax(axis=1) == table["label"]


def difference(shown, where):
    (row,) = (
        r for r in shown.evaluation.differences if r.slice == where and r.model == "candidate"
    )
    return row


def test_serving_distribution_is_measured_and_decides(shown, table):
    evaluation = shown.evaluation
    record, weights = evaluation.serving, table["weight"]
    assert record.method == "label_shift" and record.requests == 500
    assert record.served["1"] > record.tested["1"]
    row = difference(shown, "serving distribution")
    gains = accuracy(table, evaluation.candidate).astype(float) - accuracy(table, "champion")
    assert row.value == pytest.approx(np.average(gains, weights=weights))
    assert (row.family, row.view, row.examples) == (
        3,
        True,
        84,
    ) and row.low <= row.value <= row.high
    measured = {r.model: r for r in evaluation.slices if r.slice == "serving distribution"}
    expected = np.average(accuracy(table, evaluation.candidate), weights=weights)
    assert measured["candidate"].values["accuracy"] == pytest.approx(expected, rel=1e-4)
    assert measured["candidate"].view and measured["champion"].examples == 84


def test_examples_that_belong_together_are_resampled_together(shown, table):
    row, clusters = difference(shown, "overall"), table["group"].to_numpy()
    assert row.clusters == len(set(clusters)) < 84 and row.family == 3
    gains = accuracy(table, shown.evaluation.candidate).astype(float) - accuracy(table, "champion")
    expected = mean_interval(gains.to_numpy(), 1 - 0.1 / 3, clusters)
    assert (row.value, row.low, row.high) == pytest.approx(tuple(expected))


def test_an_unknown_group_is_one_of_its_own(table):
    alone = table[table["group"].str.startswith("example ")]
    assert len(alone) > 5 and alone["group"].is_unique


def test_crosses_are_measured_and_too_small_ones_are_not_judged(shown, table):
    sizes = table.groupby(["slice:sex", "slice:age"]).size()
    for (sex, age), size in sizes.items():
        row = difference(shown, f"sex={sex}, age={age}")
        assert row.examples == size < 20 and np.isnan(row.low) and np.isfinite(row.value)
    measured = {
        r.slice for r in shown.evaluation.slices if r.model == "candidate" and ", " in r.slice
    }
    assert measured == {f"sex={sex}, age={age}" for sex, age in sizes.index}
    assert difference(shown, "sex=1").family == 2


def test_fairness_and_calibration_are_of_the_candidate(shown):
    evaluation = shown.evaluation
    assert {(test.feature, test.group) for test in evaluation.fairness.tests} >= {
        ("sex", "1"),
        ("sex", "2"),
    }
    assert [row.model for row in evaluation.calibration] == ["candidate", "champion"]
    assert evaluation.calibration[0].confidence == 0.9


def test_views_that_there_are_not_are_said(shown):
    assert "newest span: the window has one span" in shown.evaluation.not_compared
    assert "drifted: age: the window has one span" in shown.evaluation.not_compared


def test_dashboard_has_the_confusion_and_the_roc_curve(shown, table):
    confusion = shown.metadata["confusion"]
    rows = [row["row"] for row in confusion["confusionMatrix"]["rows"]]
    assert rows == shown.evaluation.confusion[0].counts
    points = confusion["confidenceMetrics"]
    assert 3 <= len(points) <= 100 and all(
        np.isfinite(list(point.values())).all() for point in points
    )
    ones = np.stack(table[shown.evaluation.candidate])[:, 1]
    middle = points[len(points) // 2]
    called = ones[table["label"] == 1] >= middle["confidenceThreshold"]
    assert middle["recall"] == pytest.approx(called.mean())


def test_dashboard_has_the_confusion_of_every_slice_that_is_judged(shown, table):
    slices = {
        row["slice"]: row["sliceClassificationMetrics"]
        for row in shown.metadata["sliced"]["evaluationSlices"]
    }
    assert set(slices) == {"sex=1", "sex=2"}
    counts = np.array([row["row"] for row in slices["sex=1"]["confusionMatrix"]["rows"]])
    of = table[table["slice:sex"] == "1"]
    assert (
        counts.sum() == len(of)
        and np.trace(counts) == accuracy(of, shown.evaluation.candidate).sum()
    )
    assert [
        spec["displayName"] for spec in slices["sex=1"]["confusionMatrix"]["annotationSpecs"]
    ] == ["0", "1"]


def test_dashboard_has_the_metrics_and_the_digest(shown):
    assert shown.metadata["model"] == {
        "framework": "tensorflow",
        "digest": shown.evaluation.digest,
        "kept": False,
    }
    assert {"candidate AUC", "champion accuracy"} <= shown.metadata["metrics"].keys()


def test_a_regression_has_no_confusions_and_says_why_serving_is_not_told(kinds, tmp_path):
    project = reset(kinds["regression"], tmp_path / "project", evaluate={"serving": "label_shift"})
    found = forked(run_wrapper, project, kinds["regression"], tmp_path)
    assert found.metadata["confusion"] == {} and found.metadata["sliced"] == {}
    (why,) = (told for told in found.evaluation.not_compared if "serving" in told)
    assert "label_shift" in why and found.evaluation.serving is None
    assert not [row for row in found.evaluation.slices if row.slice == "serving distribution"]
