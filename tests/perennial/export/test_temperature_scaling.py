"""Temperature scaling: the temperature that is fitted, and what a calibrated model serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluate_model.calibration import measure_calibration
from components.validate_serving.step import TOLERANCE, validate_serving
from perennial.errors import ServingError
from perennial.export.temperature_scaling import COLDEST, HOTTEST, fit_temperature, fit_temperatures
from perennial.storage.digests import digest_folder
from schemas.records import ModelVersion, Training
from tests.chain import copy_project
from tests.components.train_model.test_train_run_fn import with_run_fn
from tests.forked import forked
from tests.perennial.export import temperature_jobs as jobs


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def scaled(probabilities, temperature):
    return softmax(np.log(np.clip(probabilities.astype(float), 1e-7, 1)) / temperature)


def log_loss(probabilities, labels):
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)).mean())


def drawn(examples, classes, sharpness, seed=1):
    """What a model says that is so many times too sure, and the labels."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(examples, classes))
    labels = (random.random((examples, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1)
    return softmax(sharpness * logits), np.minimum(labels, classes - 1)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_is_by_how_much_a_model_is_too_sure(classes, sharpness):
    probabilities, labels = drawn(20_000, classes, sharpness)
    assert fit_temperature(probabilities, labels) == pytest.approx(sharpness, rel=0.06)


@given(
    st.integers(0, 1000),
    st.integers(50, 200),
    st.integers(2, 6),
    st.floats(0.1, 10),
    st.floats(COLDEST, HOTTEST),
)
def test_no_other_temperature_has_a_lower_loss(seed, examples, classes, sharpness, other):
    probabilities, labels = drawn(examples, classes, sharpness, seed)
    found = fit_temperature(probabilities, labels)
    assert COLDEST <= found <= HOTTEST
    best, worse = (log_loss(scaled(probabilities, each), labels) for each in (found, other))
    assert best <= worse + 1e-4


def answers(one, label):
    return [({"severe": np.array(one, np.float32).reshape(-1, 1)}, {"severe": np.array(label)})]


@pytest.mark.parametrize(
    "one, label, note",
    [
        (
            [0.8] * 49,
            [0, 1] * 24 + [1],
            "the eval split has 49 examples to fit it on, fewer than 50",
        ),
        ([0.8] * 60, [1] * 60, "the eval split has only the class 1"),
        (
            [float("nan")] * 30 + [0.8] * 30,
            [0, 1] * 30,
            "the eval split has 30 examples to fit it on, fewer than 50",
        ),
    ],
)
def test_too_little_to_fit_a_temperature_on_is_told(kinds, one, label, note):
    found = fit_temperatures(jobs.calibrated(kinds["binary"].project), answers(one, label))
    assert found.temperatures == {"severe": None} and found.notes == [
        f"`severe` was not calibrated: {note}"
    ]


def test_a_temperature_at_its_bound_is_told(kinds):
    one, label = [0.6] * 50 + [0.4] * 50, [1] * 50 + [0] * 50  # always right
    found = fit_temperatures(jobs.calibrated(kinds["binary"].project), answers(one, label))
    assert found.temperatures["severe"] == pytest.approx(COLDEST, rel=0.01)
    assert found.notes == [
        "the temperature of `severe` is at its bound (0.05): the eval split tells no better one"
    ]


def test_a_regression_has_no_temperature(kinds):
    found = fit_temperatures(jobs.calibrated(kinds["regression"].project), iter([]))
    assert found.temperatures == {} and found.notes == []


@pytest.fixture(scope="module")
def overconfident(kinds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("overconfident")
    return folder, forked(jobs.export_overconfident, kinds["several"], folder)


def test_an_overconfident_model_is_better_calibrated_on_data_it_was_not_fitted_on(overconfident):
    found = overconfident[1]
    temperature = found["fitted"].temperatures["severe"]
    assert temperature > 1.5 and found["fitted"].notes == []
    plain, better = (found[name]["outputs"]["severe_probabilities"] for name in ("plain", "scaled"))
    labels = found["plain"]["labels"]["severe"]
    assert log_loss(better, labels) < log_loss(plain, labels) - 0.02
    errors = [
        measure_calibration(labels, each, "m", "severe", 0.9, None).error
        for each in (plain, better)
    ]
    assert errors[1] < errors[0] - 0.02
    np.testing.assert_allclose(better, scaled(plain, temperature), atol=1e-5)


def test_calibration_changes_nothing_but_probabilities(overconfident):
    found = overconfident[1]
    plain, better = found["plain"]["outputs"], found["scaled"]["outputs"]
    assert (
        plain.keys()
        == better.keys()
        == {"severe_class", "severe_probabilities", "progression_value", "latent"}
    )
    for name in plain.keys() - {"severe_probabilities"}:
        np.testing.assert_array_equal(plain[name], better[name])
    np.testing.assert_array_equal(
        better["severe_class"], better["severe_probabilities"].argmax(axis=1)
    )
    for name, labels in found["plain"]["labels"].items():
        np.testing.assert_array_equal(labels, found["scaled"]["labels"][name])
    assert found["weights unchanged"]


def test_the_contract_tells_the_temperature(overconfident):
    found = overconfident[1]
    plain, better = (found[name]["contract"].tasks for name in ("plain", "scaled"))
    assert [task.temperature for task in plain] == [None, None]
    assert [task.temperature for task in better] == [found["fitted"].temperatures["severe"], None]


def test_the_server_answers_with_calibrated_probabilities(kinds, overconfident, tmp_path):
    folder, kind = overconfident[0], kinds["several"]
    own, plain = (Path(each) for each in forked(jobs.evaluations, kind, folder, tmp_path))
    model = tmp_path / "candidate"
    digest = digest_folder(model / "saved_model")
    version = ModelVersion(name="several", version="2", digest=digest, source="", mlflow_run="")
    check = forked(validate_serving, kind.project, version, kind.window, own, model, tmp_path)
    assert check.passed and check.requests == 16 and check.largest_difference <= TOLERANCE
    with pytest.raises(ServingError, match="must answer as evaluation did"):
        forked(validate_serving, kind.project, version, kind.window, plain, model, tmp_path)


@pytest.fixture(scope="module")
def trained(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    project = copy_project(chain, folder / "digits")
    by_run_fn = with_run_fn(copy_project(chain, folder / "called"), 0.01)
    return folder, forked(jobs.train_calibrated, project, by_run_fn, chain, folder)


def temperature_of(case):
    (task,) = case["contract"].tasks
    return task.temperature


@pytest.mark.timeout(900)
@pytest.mark.parametrize("plain, case", [("plain", "scaled"), ("run_fn", "run_fn scaled")])
def test_training_calibrates_what_it_exports(trained, plain, case):
    folder, found = trained
    temperature = temperature_of(found[case])
    assert COLDEST < temperature < HOTTEST and temperature != pytest.approx(1, abs=1e-3)
    assert temperature_of(found[plain]) is None and found[case]["record"].notes == []
    # The same seed gives the same model.
    before, after = found[plain]["outputs"], found[case]["outputs"]
    np.testing.assert_array_equal(before["class"], after["class"])
    np.testing.assert_allclose(
        after["probabilities"], scaled(before["probabilities"], temperature), atol=1e-4
    )
    assert Training.read(folder / case).digest == found[case]["record"].digest


def test_a_calibrated_champion_is_patched_and_calibrated_anew(trained):
    found = trained[1]["patched"]
    assert found["record"].notes == [] and found["record"].instance.start == "patched"
    assert temperature_of(found) not in (None, temperature_of(trained[1]["scaled"]))
