"""Stabilising.

Every draw is recorded, the chosen one's weights go on, and they begin where pretraining ended.
"""

from __future__ import annotations

import pytest

from perennial.training.weight_draws import choose_draw
from schemas.records import Stabilisation
from tests.chain import copy_project
from tests.components.stabilise_weights.jobs import (
    count_dead_units,
    fail_each,
    fit_chosen,
    start_from_pretrained,
    start_from_tuned,
)
from tests.forked import forked


def test_every_draw_was_tried_and_the_best_goes_on(chain):
    record, settings = Stabilisation.read(chain.weights), chain.project.settings
    assert [draw.seed for draw in record.draws] == [settings.train.seed, settings.train.seed + 1]
    assert all(
        len(draw.losses) == settings.stabilise.steps and draw.finite for draw in record.draws
    )
    assert all(draw.gradient_norm > 0 and 0 <= draw.dead_units <= 1 for draw in record.draws)
    assert record.draws[0].losses != record.draws[1].losses
    assert record.chosen == choose_draw(record.draws) and record.pretrained == 0


def test_the_weights_fit_the_model_and_nothing_else_is_left(chain):
    assert forked(fit_chosen, chain) == ("8 of 8 weights", ["stabilisation.json", "weights.npz"])


def test_each_draw_starts_from_pretraining_where_it_fits(chain, tmp_path):
    project = copy_project(chain, tmp_path / "digits")
    record, distances = forked(start_from_pretrained, project, chain.features, tmp_path)
    *learner, kernel, _ = distances
    assert record.pretrained == len(learner) == 6
    assert all(distances[name] < 1e-4 for name in learner), distances
    assert distances[kernel] > 0.1, (
        "the head is a fresh draw: its shape differs from what was pretrained"
    )
    assert record.draws[0].losses != record.draws[1].losses, "of each draw another one"


def test_an_earlier_search_decides_the_model_while_its_space_is_the_same(chain, tmp_path):
    project = copy_project(chain, tmp_path / "digits")
    found = forked(start_from_tuned, project, chain.features, tmp_path)
    assert found["same space"][1] == 24 and found["another space"][1] == 64


@pytest.fixture(scope="module")
def messages(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fails")
    return forked(fail_each, copy_project(chain, folder / "digits"), chain.features, folder)


def _line(chain, start):
    lines = chain.project.module_path.read_text().splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.strip().startswith(start))


def test_no_finite_draw_names_the_line_and_what_to_do(messages, chain):
    where = (
        f"TrainingError: model.py:{_line(chain, 'def build_model')}: build_model must train with "
        "a finite loss. "
    )
    assert messages["diverges"].startswith(where + "Received: none of 2 draws did.")
    assert (
        "preprocessing_fn" in messages["diverges"]
        and "lower train.learning_rate" in messages["diverges"]
    )


def test_a_model_that_does_not_build_names_its_line(messages, chain):
    line = _line(chain, "x = keras.layers.Reshape")
    assert messages["does not build"].startswith(
        f"ProjectError: model.py:{line}: build_model must build a model"
    )


def test_values_have_no_classes_to_balance(messages):
    message = messages["no classes to balance"]
    assert message.startswith(
        "ProjectError: project.yaml: train.balance must be none, as the first task"
    )
    assert "Remove it, or name a task with classes first" in message


@pytest.fixture(scope="module")
def dead():
    return forked(count_dead_units)


@pytest.mark.parametrize(
    "written",
    [
        "activation of a layer",
        "layer of its own",
        "nested model",
        "model in a model in a model",
        "block with a function",
        "channels of a convolution",
    ],
)
def test_dead_units_are_found_however_a_relu_is_written(dead, written):
    assert dead[written] == 2 / 8


def test_dead_units_are_a_share_of_all_relu_units(dead):
    assert dead["two of them"] == 2 / 16 and dead["none"] is None
