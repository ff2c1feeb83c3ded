"""Examples count as a feature says: in training, in the metrics and intervals, from landing on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from perennial.data.examples import split_of
from perennial.errors import ProjectError
from perennial.evaluation.comparison import Pair, Terms, compare_overall, compare_slices
from perennial.evaluation.groups import Group
from perennial.evaluation.trivial import compare_trivial
from perennial.project import load_project
from perennial.runner.project_checks import check_project
from schemas.project import SplitSettings
from tests.components.evaluate_model import weighted_jobs as jobs
from tests.forked import forked

# Three of four examples that count are 1; of all examples together three of eight.
WEIGHTED = 0.75 * jobs.COUNTING / (jobs.COUNTING + jobs.LITTLE)
PLAIN = 0.375


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    return forked(jobs.run, tmp_path_factory.mktemp("weighted"), jobs.BUILT, jobs.WEIGHT)


def ones(result) -> np.ndarray:
    """The candidate's probability of 1, float64 [n]."""
    return np.stack(result["table"]["one"].tolist()).astype(np.float64)[:, 1]


def overall(result) -> dict[str, float]:
    return next(row.values for row in result["evaluation"].slices if row.slice == "overall")


def test_a_model_learns_what_counts(weighted, tmp_path):
    plain = forked(jobs.run, tmp_path, jobs.BUILT, None)
    assert ones(weighted).mean() == pytest.approx(WEIGHTED, abs=0.06)
    assert ones(plain).mean() == pytest.approx(PLAIN, abs=0.06)
    assert "example_weight" not in plain["table"]


def test_metrics_are_weighted_as_scikit_learn_weights_them(weighted):
    table, one = weighted["table"], ones(weighted)
    weights = np.where(table["example_weight"] > 1, jobs.COUNTING, jobs.LITTLE)
    np.testing.assert_array_equal(table["example_weight"], weights)
    for where, values in [("overall", overall(weighted))] + [
        (row.slice.partition("=")[2], row.values)
        for row in weighted["evaluation"].slices
        if row.slice.startswith("site=")
    ]:
        rows = np.ones(len(table), bool) if where == "overall" else table["slice:site"] == where
        labels, kept = table["label"][rows], weights[rows]
        assert values["log_loss"] == pytest.approx(
            log_loss(labels, one[rows], sample_weight=kept), rel=1e-5
        )
        assert values["accuracy"] == pytest.approx(
            accuracy_score(labels, one[rows] > 0.5, sample_weight=kept)
        )
        assert values["auc"] == pytest.approx(roc_auc_score(labels, one[rows], sample_weight=kept))


def test_early_stopping_and_the_trivial_predictor_count_alike(weighted):
    """The epoch is chosen by the weighted loss; the best constant is the weighted share."""
    best = weighted["training"].best
    labels, weights = eval_split()
    learnt = np.full(len(labels), WEIGHTED)
    assert best.eval_metric == pytest.approx(float(weights @ labels) / weights.sum(), abs=0.02)
    assert best.eval_loss == pytest.approx(log_loss(labels, learnt, sample_weight=weights), abs=0.1)
    table = weighted["table"]
    share = np.average(table["label"], weights=table["example_weight"])
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert weighted["evaluation"].trivial.value == pytest.approx(entropy)


def eval_split() -> tuple[np.ndarray, np.ndarray]:
    """The labels and weights of the eval split."""
    chosen = [row for row in jobs.rows() if split_of(row["id"], SplitSettings()) == "eval"]
    return tuple(np.array([row[name] for row in chosen]) for name in ("label", jobs.WEIGHT))


def test_a_module_with_run_fn_weights_itself_and_is_measured_by_the_weights(tmp_path):
    result = forked(jobs.run, tmp_path, jobs.RUN, jobs.WEIGHT)
    table = result["table"]
    np.testing.assert_allclose(ones(result), 0.75)
    expected = log_loss(table["label"], ones(result), sample_weight=table["example_weight"])
    assert overall(result)["log_loss"] == pytest.approx(expected, rel=1e-5)
    labels, weights = eval_split()
    expected = log_loss(labels, np.full(len(labels), 0.75), sample_weight=weights)
    assert result["training"].best.eval_loss == pytest.approx(expected, rel=1e-5)


def test_an_interval_counts_as_repeated_examples_do():
    """A weight of 3 is the example three times: the same gain, on slices too."""
    random = np.random.default_rng(1)
    labels, weights = random.integers(0, 2, 60), random.integers(1, 4, 60)
    ours, theirs = (_probabilities(random, 60) for _ in range(2))
    often = np.repeat(np.arange(60), weights)
    for metric in ("log_loss", "accuracy", "auc"):
        pair = Pair(ours, theirs, labels, metric, weights=weights.astype(float))
        whole = Pair(ours[often], theirs[often], labels[often], metric)
        terms = Terms("prediction", 0.9)
        gain = compare_overall(pair, terms)
        assert gain.value == pytest.approx(whole.value()) == pytest.approx(pair.value())
        # Sixty units, however often they count.
        repeated = compare_overall(whole, terms)
        assert gain.high - gain.low > repeated.high - repeated.low
        rows = np.arange(0, 60, 2)
        (part,) = compare_slices(pair, terms, [Group("half", rows)])
        kept = np.repeat(rows, weights[rows])
        assert part.value == pytest.approx(
            Pair(ours[kept], theirs[kept], labels[kept], metric).value()
        )


@pytest.mark.parametrize("metric", ["mean_absolute_error", "mean_squared_error"])
def test_the_best_constant_value_is_the_weighted_median_or_mean(metric):
    labels, weights = np.array([0.0, 1.0, 10.0, 20.0]), np.array([1.0, 1.0, 3.0, 1.0])
    terms = Terms("prediction", 0.9)
    often = np.repeat(labels, weights.astype(int))
    ours = compare_trivial(labels, labels, metric, terms, weights=weights)
    theirs = compare_trivial(often, often, metric, terms)
    assert (ours.answer, ours.value) == (theirs.answer, pytest.approx(theirs.value))


def _probabilities(random, count):
    one = random.uniform(0.05, 0.95, count)
    return np.stack([1 - one, one], axis=1)


@pytest.mark.parametrize(
    ("weights", "verdict", "shown"),
    [
        ({7: -1.0}, "set_aside", "-1"),
        ({number: -0.5 for number in range(200)}, "failed", "-0.5"),
    ],
)
def test_weights_below_0_are_refused_when_they_land(tmp_path, weights, verdict, shown):
    checked = forked(jobs.check, tmp_path, jobs.WEIGHT, weights)
    (check,) = [check for check in checked.checks if check.subject == jobs.WEIGHT]
    assert check.verdict == verdict and shown in check.message
    assert "model.tasks[].example_weight" in check.message


def test_a_preprocessing_fn_that_returns_the_weight_is_told(tmp_path):
    message = forked(jobs.returned, tmp_path)
    assert "must leave `counts` out" in message and "model.py:" in message


@pytest.mark.parametrize(
    ("weight", "old", "new", "says"),
    [
        ("count", "", "", "Did you mean `counts`?"),
        ("label", "", "", "must be another feature than the label"),
        ("id", "", "", "must be another feature than the key"),
        ("site", "", "", "must be INT or FLOAT"),
        (
            "counts",
            '"counts" type: FLOAT presence { min_fraction: 1 } shape {}',
            '"counts" type: FLOAT value_count { min: 1 max: 1 }',
            "must have one value in every row",
        ),
        (
            "counts",
            '"counts" type: FLOAT',
            '"counts" type: FLOAT float_domain { min: -1 }',
            "must allow no value below 0",
        ),
        (
            "counts",
            '"counts" type: FLOAT',
            '"counts" lifecycle_stage: DEPRECATED type: FLOAT',
            "must be a feature that lands and is in use",
        ),
    ],
)
def test_a_weight_that_cannot_be_one_is_refused_by_validate(tmp_path, weight, old, new, says):
    project = jobs.weighted_project(tmp_path / "project", jobs.BUILT, weight)
    assert old in jobs.SCHEMA
    project.schema_path.write_text(jobs.SCHEMA.replace(old, new, 1) if old else jobs.SCHEMA)
    with pytest.raises(ProjectError, match=says):
        check_project(load_project(project.folder))


def test_weights_and_serving_weights_exclude_each_other(tmp_path):
    project = jobs.weighted_project(tmp_path / "project", jobs.BUILT, jobs.WEIGHT)
    check_project(project)
    path = project.folder / "project.yaml"
    path.write_text(
        path.read_text()
        .replace("evaluate:", "evaluate:\n  serving: label_shift")
        .replace("data:", "data:\n  serving_log: served/*.jsonl")
    )
    with pytest.raises(ProjectError, match="must be none while `counts` weights the examples"):
        check_project(load_project(project.folder))
