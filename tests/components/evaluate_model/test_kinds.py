"""Evaluation of binary tasks, regressions and several tasks at once.

Champions that predict something else.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

from components.decide_promotion.step import decide_promotion
from components.evaluate_model.step import describe_overall
from perennial.errors import ProjectError, TrainingError
from perennial.evaluation.prediction_table import Examples, check_labels
from perennial.tasks import LOWER_IS_BETTER, Task
from schemas.records import Evaluation, Training
from tests.components.evaluate_model.jobs import (
    compare_champions,
    hold_against_former,
    predict_spoiled,
)
from tests.forked import forked

TASKS = [
    ("binary", "severe"),
    ("regression", "progression"),
    ("several", "severe"),
    ("several", "progression"),
]


@pytest.fixture(scope="module")
def found(kinds):
    return {kind: Evaluation.read(made.evaluation) for kind, made in kinds.items()}


@pytest.fixture(scope="module")
def landed(kinds):
    path = kinds["binary"].project.folder / "data" / "2026-01-01.csv"
    return pd.read_csv(path).set_index("id")


@pytest.mark.parametrize("kind, task", TASKS)
def test_labels_of_each_task_are_as_the_model_learned_them(kinds, landed, kind, task):
    table = kinds[kind].table(task)
    progression = landed["progression"][table["key"]].to_numpy()
    np.testing.assert_allclose(
        table["label"], progression > 140 if task == "severe" else progression
    )
    assert (table["slice:sex"] == landed["sex"][table["key"]].astype(str).to_numpy()).all()


def test_tables_of_all_tasks_have_the_same_rows(kinds):
    first, second = (
        kinds["several"].table(task)[["span", "key", "slice:sex"]]
        for task in ("severe", "progression")
    )
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize("kind, task", TASKS)
def test_metrics_are_those_of_scikit_learn(kinds, found, kind, task):
    evaluation, table = found[kind], kinds[kind].table(task)
    names = {"candidate": evaluation.candidate, "champion": "champion"}
    rows = [row for row in evaluation.slices if row.task == task]
    assert {row.slice for row in rows} == {"overall", "sex=1", "sex=2"}
    for row in rows:
        where = (
            table
            if row.slice == "overall"
            else table[table["slice:sex"] == row.slice.removeprefix("sex=")]
        )
        labels, predicted = where["label"], where[names.get(row.model, row.model)]
        if task == "severe":
            ones = np.stack(predicted)[:, 1]
            expected = {
                "accuracy": ((ones > 0.5) == labels).mean(),
                "log_loss": log_loss(labels, ones),
                "auc": roc_auc_score(labels, ones),
            }
        else:
            expected = {
                "mean_absolute_error": mean_absolute_error(labels, predicted),
                "mean_squared_error": mean_squared_error(labels, predicted),
            }
        assert {name: row.values[name] for name in expected} == pytest.approx(expected, rel=1e-4)
        assert row.examples == len(where)


@pytest.mark.parametrize(
    "kind, task, metric, sign",
    [
        ("binary", "severe", "auc", 1),
        ("several", "severe", "log_loss", -1),
        ("several", "progression", "mean_absolute_error", -1),
    ],
)
def test_differences_agree_with_the_metrics_and_positive_is_better(found, kind, task, metric, sign):
    rows = {(row.model, row.slice): row.values for row in found[kind].slices if row.task == task}
    differences = [
        row for row in found[kind].differences if row.task == task and row.model == "candidate"
    ]
    assert {row.slice for row in differences} == {"overall", "sex=1", "sex=2"}
    for row in differences:
        gain = rows["candidate", row.slice][metric] - rows["champion", row.slice][metric]
        assert row.metric == metric and row.value == pytest.approx(sign * gain, rel=1e-3, abs=5e-3)
        assert row.low <= row.value <= row.high and row.confidence == 0.9
        assert row.family == (1 if row.slice == "overall" else 2)


def test_the_other_instance_is_compared_on_the_first_task(kinds, found):
    """It is the champion itself, so that it gains nothing over it."""
    for kind in ("binary", "several"):
        others = [row for row in found[kind].differences if row.model != "candidate"]
        (name,) = {path.name for path in kinds[kind].models} - {found[kind].candidate}
        assert [(row.model, row.slice, row.family, row.task) for row in others] == [
            (name, "overall", 2, "severe")
        ]
        assert (others[0].value, others[0].low, others[0].high) == (0, 0, 0)


def test_what_could_not_be_looked_at_is_said(found):
    for evaluation in found.values():
        assert "newest span: the window has one span" in evaluation.not_compared
        assert "what drifted: there is no record of the data checks" in evaluation.not_compared


def test_calibration_of_every_task_with_classes(found):
    told = {
        kind: [(row.model, row.task) for row in evaluation.calibration]
        for kind, evaluation in found.items()
    }
    both = [("candidate", "severe"), ("champion", "severe")]
    assert told == {"binary": both, "several": both, "regression": []}
    for row in found["binary"].calibration:
        assert sum(part.examples for part in row.bins) == 84 and 0 <= row.low <= row.high <= 1
        assert row.temperature is None


def test_record_names_its_tasks_and_the_gate_reads_the_first(kinds, found):
    assert [(task.name, task.kind) for task in found["several"].tasks] == [
        ("severe", "binary"),
        ("progression", "regression"),
    ]
    decision = decide_promotion(found["several"], kinds["several"].project.settings.gate)
    assert (
        "task `progression` is measured, but the gate reads `severe` only" in decision.not_compared
    )
    first = decide_promotion(found["regression"], kinds["regression"].project.settings.gate)
    assert first.promote and "candidate's mean absolute error is" in first.reasons[1]


def test_confusion_and_mistakes_of_the_first_task(found):
    assert [matrix.labels for matrix in found["binary"].confusion] == [["0", "1"], ["0", "1"]]
    assert found["regression"].confusion == []
    errors = [abs(m.label - m.predicted) for m in found["regression"].mistakes]
    assert errors == sorted(errors, reverse=True) and len(errors) == 20
    assert all(m.probability is None for m in found["regression"].mistakes)
    assert all(m.label != m.predicted and m.probability > 0.5 for m in found["several"].mistakes)


def test_overall_metrics_in_words(found):
    assert {"candidate AUC", "champion accuracy"} <= describe_overall(found["binary"]).keys()
    assert "candidate progression mean absolute error" in describe_overall(found["several"])


@pytest.fixture(scope="module")
def champions(kinds, tmp_path_factory):
    return forked(compare_champions, kinds, tmp_path_factory.mktemp("champions"))


@pytest.mark.parametrize(
    "case, parts",
    [
        (
            "other labels",
            [
                "labels are defined otherwise by version 4 (task `severe`: 84 of 84 test "
                "examples, such as"
            ],
        ),
        ("another task", ["predicts `progression` (regression) instead of `severe` (binary)"]),
        (
            "not a number",
            ["NaN or infinity for 1 of 84 test examples of task `severe`, such as patient-"],
        ),
        (
            "other feature",
            ["could not be evaluated: it cannot take the test examples (", "thickness"],
        ),
        ("no contract", ["could not be evaluated: ", "must have assets.extra/contract.json"]),
        ("damaged", ["could not be evaluated: ", "SHA-256"]),
    ],
)
def test_champion_that_cannot_be_compared_is_told_and_left_out(champions, case, parts):
    found = champions[case]
    (why,) = found.not_compared
    assert all(part in why for part in parts) and "version" in why
    assert found.predictions == {}


def test_champion_with_fewer_tasks_is_compared_on_the_first(champions):
    found = champions["fewer tasks"]
    assert list(found.predictions) == ["severe"]
    assert found.not_compared == [
        "task `progression` (regression): champion version 3 does not predict it"
    ]


def test_the_champion_is_held_against_earlier_ones_on_todays_examples(kinds, found, tmp_path):
    (former,), (not_held,) = forked(hold_against_former, kinds["binary"], tmp_path)
    candidate = next(
        row
        for row in found["binary"].differences
        if (row.model, row.slice) == ("candidate", "overall")
    )
    assert former.gain.value == pytest.approx(-candidate.value, abs=1e-6)
    assert (former.gain.model, former.gain.metric, former.gain.examples) == ("champion", "auc", 84)
    assert not_held.startswith("former champion version ") and "contract.json" in not_held


def test_the_candidate_is_compared_with_the_best_constant_answer(kinds, found):
    for kind in ("binary", "several", "regression"):
        trivial, metric = found[kind].trivial, kinds[kind].project.settings.gate.metric
        value = found[kind].overall("candidate").values[metric]
        sign = -1 if metric in LOWER_IS_BETTER else 1
        assert trivial.gain.value == pytest.approx(sign * (value - trivial.value), rel=1e-3)
    assert found["binary"].trivial.value == 0.5
    assert found["regression"].trivial.answer.endswith(", the median")


def _trainings(kind):
    return sorted(
        (Training.read(folder) for folder in kind.models),
        key=lambda training: training.best.eval_loss,
    )


def test_candidate_that_gives_nan_is_refused_by_its_name(kinds, tmp_path):
    best, _ = _trainings(kinds["several"])
    name = best.instance.name
    with pytest.raises(TrainingError) as caught:
        forked(predict_spoiled, kinds["several"], tmp_path, best, name)
    assert str(caught.value).startswith(
        f"model of {name} must give finite predictions. Received: NaN or infinity for "
    )
    assert "preprocessing_fn" in caught.value.remedy


def test_another_instance_that_gives_nan_is_left_out_and_told(kinds, tmp_path):
    best, worse = _trainings(kinds["several"])
    predictions, not_measured = forked(
        predict_spoiled, kinds["several"], tmp_path, worse, best.instance.name
    )
    assert list(predictions) == [best.instance.name]
    assert not_measured[0].startswith(
        f"{worse.instance.name} was not measured: it gives NaN or infinity for 1 of"
    )


@pytest.mark.parametrize(
    "kind, labels, parts",
    [
        ("binary", [0, 1, 2], ["must be 0 or 1", "2 for the example c; 1 of 3"]),
        ("multi_class", [3, -1, 0], ["must be class numbers from 0", "-1 for the example b"]),
        (
            "regression",
            [0.5, math.nan, math.inf],
            ["must be finite", "nan for the example b; 2 of 3"],
        ),
    ],
)
def test_labels_that_nothing_can_be_measured_by(kind, labels, parts):
    examples = Examples([b"", b"", b""], pd.DataFrame({"key": ["a", "b", "c"]}))
    with pytest.raises(ProjectError) as caught:
        check_labels(Task("tip", kind, "tip"), np.array(labels), examples)
    message = str(caught.value)
    assert message.startswith("labels of task `tip` ") and all(part in message for part in parts)
    assert "preprocessing_fn" in message
