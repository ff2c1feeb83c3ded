"""A label that `preprocessing_fn` returns under the name of the landed one, as TFX's Airflow taxi does."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.errors import ProjectError
from perennial.project import load_project
from perennial.runner.project_checks import check_project
from tests.components.evaluate_model import weighted_jobs as jobs
from tests.forked import forked

# What lands as `label` is 7 or 8, which is no class of the task.
LANDED = 7
RETURNED = jobs.RUN.replace(
    '"counts_xf": inputs["counts"]', '"label": tf.cast(inputs["noise"] > 0.5, tf.int64)'
)
TASK = {"name": "loud", "kind": "binary", "label": "label", "label_from": "preprocessing_fn"}


def landing_dollars(folder, *tasks):
    """The project whose label lands as a number that no class has."""
    project = jobs.weighted_project(folder, RETURNED, None, list(tasks))
    text = project.schema_path.read_text()
    project.schema_path.write_text(text.replace('"label" type: INT', '"label" type: FLOAT'))
    return load_project(project.folder)


def test_it_is_learnt_from_and_measured_as_it_is_returned(tmp_path):
    result = forked(jobs.run, tmp_path, RETURNED, None, [TASK], LANDED)
    labels = result["table"]["label"].to_numpy()
    verdicts = {check.verdict for check in result["checked"].checks}
    assert set(labels) == {0, 1} and "failed" not in verdicts
    landed = {row["id"]: row["noise"] > 0.5 for row in jobs.rows()}
    np.testing.assert_array_equal(labels, [landed[key] for key in result["table"]["key"]])


def test_validate_takes_the_type_that_lands(tmp_path):
    check_project(landing_dollars(tmp_path / "project", TASK))


def test_without_the_setting_the_landed_label_is_looked_at_and_the_setting_told(tmp_path):
    task = {name: value for name, value in TASK.items() if name != "label_from"}
    with pytest.raises(ProjectError, match=r"label must be INT.*label_from: preprocessing_fn"):
        check_project(landing_dollars(tmp_path / "project", task))


def test_a_label_has_one_source(tmp_path):
    other = {"name": "dollars", "kind": "regression", "label": "label"}
    with pytest.raises(ProjectError, match=r"model.tasks\[1\].label_from must be the same"):
        check_project(landing_dollars(tmp_path / "project", TASK, other))
