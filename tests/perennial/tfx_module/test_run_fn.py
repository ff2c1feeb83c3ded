"""TFX's own taxi module, unmodified, on real trips.

What it is given, and the served model of what it saves.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perennial.export.contract import read_contract
from perennial.project import load_project
from perennial.runner.project_checks import check_project
from tests.forked import forked
from tests.perennial.folders import TAXI
from tests.perennial.tfx_module.jobs import (
    encoded,
    outputs,
    served_and_own,
    taxi_project,
    train,
    transformed_taxi,
    tuned,
)
from tests.perennial.tfx_module.tfx_arguments import compared_with_tfx

if not TAXI.exists():
    pytest.skip("the taxi trips are not beside the repository", allow_module_level=True)

LEFT_NONE = {"working_dir"}  # TFX's Trainer has none; a run_fn may use ours


@pytest.fixture(scope="module")
def taxi(tmp_path_factory):
    """The project and the folder of its transformed features."""
    return transformed_taxi(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(taxi, tmp_path_factory):
    """What was trained by the module as it is; the folder that `run_fn` saved to is gone."""
    return forked(train, *taxi, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def answered(taxi, model):
    """Answers of another process than the one that trained."""
    project, features = taxi
    return forked(served_and_own, project, model, features)


@pytest.fixture(scope="module")
def compared(taxi, tmp_path_factory):
    return forked(compared_with_tfx, *taxi, tmp_path_factory.mktemp("compared"))


def test_the_module_is_tfx_s_own(taxi):
    project, _ = taxi
    assert project.uses_run_fn
    assert project.module_path.parts[-3:] == (
        "examples",
        "chicago_taxi_pipeline",
        "taxi_utils_native_keras.py",
    )


def test_serving_gives_what_the_saved_model_gives(answered):
    own = answered["own"]["outputs"][:, 0]
    assert answered["lacking"] > 10, (
        "examples without optional features are among those that are compared"
    )
    for served in (answered["served"], answered["examples"]):
        np.testing.assert_allclose(served["probabilities"][:, 1], own, rtol=1e-5)
        np.testing.assert_allclose(served["probabilities"].sum(axis=1), 1, rtol=1e-5)
        assert served["class"].tolist() == (own > 0.5).astype(int).tolist()
        assert served["class"].dtype == np.int64 and served["probabilities"].dtype == np.float32
    assert own.std() > 0.01, "the model tells trips apart"


def test_labels_come_from_the_transform_graph(answered):
    assert answered["labels"]["big_tip"].tolist() == answered["truth"]
    assert 0 < sum(answered["truth"]) < len(answered["truth"])


def test_contract_says_what_may_be_left_out(model, answered):
    contract = read_contract(model)
    by_name = {feature.name: feature for feature in contract.features}
    assert sorted(by_name) == answered["inputs"] and not {"tips", "trip_id"} & set(by_name)
    assert by_name["company"].default == [""] and by_name["trip_seconds"].default == [0]
    assert by_name["fare"].default is None and by_name["fare"].dtype == "float32"
    assert [(task.name, task.kind, task.classes) for task in contract.tasks] == [
        ("big_tip", "binary", 2)
    ]
    assert contract.latent is None


def test_the_same_seed_gives_the_same_model(taxi, model, answered, tmp_path):
    project, features = taxi
    again = forked(outputs, project, forked(train, project, features, tmp_path), features)
    np.testing.assert_array_equal(again["probabilities"], answered["examples"]["probabilities"])


def test_tensorboard_logs_are_where_run_fn_was_told(model):
    assert {path.parent.name for path in (model.parent / "logs").rglob("events.*")} == {
        "train",
        "validation",
    }


@pytest.mark.parametrize("case", ["given", "not given"])
def test_fn_args_are_filled_as_tfx_s_trainer_fills_them(compared, case):
    ours, theirs = (dict(fields) for fields in compared[case])
    assert {
        name for name, value in theirs.items() if value is None and ours[name] is not None
    } == LEFT_NONE
    for schema in ("schema_path", "schema_file"):
        assert Path(ours.pop(schema)).read_text() == Path(theirs.pop(schema)).read_text()
    assert {name: ours[name] for name in ours if name not in LEFT_NONE} == {
        name: theirs[name] for name in theirs if name not in LEFT_NONE
    }
    absent = {name for name, value in ours.items() if value is None}
    assert absent == (
        set() if case == "given" else {"base_model", "hyperparameters", "custom_config"}
    )
    assert ours["data_accessor"] == [True, True, False]  # a view only decodes what is no tf.Example


def test_fn_args_of_a_tuner_are_filled_as_tfx_s_tuner_fills_them(compared):
    ours, theirs = (dict(fields) for fields in compared["tuner"])
    ours.pop("schema_path"), theirs.pop("schema_path")
    assert ours == theirs and ours["working_dir"] and ours["serving_model_dir"] is None


def test_data_accessor_gives_the_batches_that_tfx_s_gives(compared):
    ours, theirs = compared["data"]
    assert ours == theirs
    assert len(ours[0]["label"]) == 20 and set(ours[0]["label"]) == {0, 1}


def test_examples_are_counted_for_run_fn(compared, taxi):
    assert compared["num_examples"]["train"] > 200 and set(compared["num_examples"]) == {
        "train",
        "eval",
    }


def test_examples_encoded_in_a_graph_hold_their_values():
    values = {
        "a": [1.5, -2.0],
        "b": [[1, 2], [-3, 4]],
        "c": ["x", "ü"],
        "d": [[[0.0, 1.0]], [[2.0, 3.0]]],
    }
    found = forked(encoded, {**values, "b": np.array(values["b"], np.int64)})
    assert found[0] == {"a": [1.5], "b": [1, 2], "c": [b"x"], "d": [0.0, 1.0]}
    assert found[1] == {"a": [-2.0], "b": [-3, 4], "c": ["ü".encode()], "d": [2.0, 3.0]}


def test_module_without_tuner_fn_is_not_searched(taxi, tmp_path):
    assert forked(tuned, *taxi, tmp_path) is None


def test_module_that_cannot_be_imported(tmp_path):
    project = taxi_project(tmp_path / "project", model={"module": "tfx.examples.no_such_module"})
    with pytest.raises(
        Exception, match=r"project.yaml: model.module .* Received: tfx.examples.no_such_module"
    ) as told:
        check_project(project)
    assert "correct the name" in str(told.value)


def test_example_project_names_no_file_that_is_not_there():
    project = load_project(Path(__file__).parents[3] / "examples" / "taxi")
    check_project(project)
    assert project.settings.model.module.startswith("tfx.examples")
    assert json.loads(project.expectations_path.read_text())["name"] == project.settings.name
