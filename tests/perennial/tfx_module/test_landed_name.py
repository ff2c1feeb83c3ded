"""A label that `preprocessing_fn` returns under the name of the landed one, as TFX's Airflow taxi does."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.errors import ProjectError
from perennial.project import load_project
from perennial.runner.project_checks import check_project
from tests.forked import forked
from tests.perennial.folders import TAXI
from tests.perennial.tfx_module.jobs import taxi_project, train_under_the_landed_name

if not TAXI.exists():
    pytest.skip("the taxi trips are not beside the repository", allow_module_level=True)

# `tips` lands as dollars, and becomes whether they are more than a fifth of the fare.
MODULE = """
from tfx.examples.chicago_taxi_pipeline.taxi_utils_native_keras import preprocessing_fn as theirs


def preprocessing_fn(inputs):
    outputs = theirs(inputs)
    outputs["tips"] = outputs.pop("tips_xf")
    return outputs


def run_fn(fn_args):
    save(fn_args, lambda w, examples: {"a": tf.sigmoid(w * fares(examples))})
"""
TASK = {"name": "big_tip", "kind": "binary", "label": "tips", "label_from": "preprocessing_fn"}


def test_it_is_learnt_from_as_it_is_returned(tmp_path):
    project = taxi_project(tmp_path / "project", MODULE, model={"tasks": [TASK]})
    check_project(project)
    answered = forked(train_under_the_landed_name, project, tmp_path)
    np.testing.assert_array_equal(answered["labels"]["big_tip"], answered["truth"])
    assert 0 < sum(answered["truth"]) < len(answered["truth"])


def test_without_the_setting_the_landed_label_is_looked_at_and_the_setting_told(tmp_path):
    task = {name: value for name, value in TASK.items() if name != "label_from"}
    project = taxi_project(tmp_path / "project", MODULE, model={"tasks": [task]})
    with pytest.raises(ProjectError, match=r"tips must be INT.*label_from: preprocessing_fn"):
        check_project(project)


def test_a_label_has_one_source(tmp_path):
    other = {"name": "dollars", "kind": "regression", "label": "tips"}
    project = taxi_project(tmp_path / "project", MODULE, model={"tasks": [TASK, other]})
    with pytest.raises(ProjectError, match=r"model.tasks\[1\].label_from must be the same"):
        check_project(load_project(project.folder))
