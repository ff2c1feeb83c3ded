"""Properties of early stopping, and of what a killed training goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.train_model.job import Work
from components.train_model.logs import Point
from components.train_model.progress import Progress
from components.train_model.step import should_stop
from perennial.errors import IntegrityError, ProjectError, TrainingError
from perennial.results.unfinished import UnfinishedWork
from perennial.training.hyperparameters import balance_classes
from perennial.training.transformed_features import TransformedFeatures
from schemas.records import Epoch
from tests.perennial.folders import make_project

LOSSES = st.lists(st.floats(0, 10), max_size=20)
PATIENCE = st.integers(1, 6)


@given(LOSSES, PATIENCE)
def test_stops_exactly_when_the_last_epochs_did_not_beat_those_before(losses, patience):
    expected = len(losses) > patience and all(
        loss >= min(losses[:-patience]) for loss in losses[-patience:]
    )
    assert should_stop(losses, patience) == expected


@given(LOSSES, PATIENCE, st.floats(0.1, 5))
def test_never_stops_just_after_the_lowest_loss(losses, patience, less):
    assert not should_stop([*losses, min(losses, default=10) - less], patience)


@given(LOSSES, PATIENCE)
def test_more_patience_never_stops_earlier(losses, patience):
    stops = [
        next((n for n in range(len(losses) + 1) if should_stop(losses[:n], p)), 99)
        for p in (patience, patience + 1)
    ]
    assert stops[0] <= stops[1]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(allow_nan=False)), max_size=5))
def test_progress_comes_back_as_it_was(pairs):
    """Also with a gradient norm that is infinite, as 16-bit floats give now and then."""
    epochs = tuple(Epoch(train_loss=loss, eval_loss=loss, eval_metric=0.5) for loss, _ in pairs)
    points = tuple(
        Point(step=1, at=1.5, loss=loss, gradient_norm=norm, learning_rate=0.1)
        for loss, norm in pairs
    )
    progress = Progress(
        steps=7, epochs=epochs, points=points, losses=(0.1,), times=(1e9,), seconds=2.5
    )
    assert Progress.model_validate_json(progress.model_dump_json()) == progress


@pytest.mark.parametrize("kind", [ProjectError, TrainingError, IntegrityError])
def test_what_a_worker_says_arrives(tmp_path: Path, kind):
    work = Work(UnfinishedWork(str(tmp_path), "train_workers", "1"))
    assert work.read_error(2) is None
    error = kind("model.py:3: build_model", "must build", "ValueError: ‘x’", "Correct it.")
    work.write_error(1, error)
    found = work.read_error(2)
    assert type(found) is kind and str(found) == str(error) and work.read_error(1) is None
    work.clear_errors(2)
    assert work.read_error(2) is None


@pytest.mark.parametrize("balance", ["class_weights", "resample"])
def test_values_have_no_classes_to_balance(tmp_path, balance):
    tasks = [{"name": "fare", "kind": "regression"}]
    changes = {
        "model": {"tasks": tasks},
        "gate": {"metric": "mean_squared_error"},
        "train": {"balance": balance},
    }
    project = make_project(tmp_path / "project", **changes)
    with pytest.raises(ProjectError) as caught:
        balance_classes(TransformedFeatures(tmp_path, project.tasks), project.settings.train)
    assert str(caught.value).startswith(
        "project.yaml: train.balance must be none, as the first task `fare`"
    )
    assert f"Received: {balance}. Remove it" in str(caught.value)
