"""A killed training goes on from its last checkpoint and ends as one that was never killed."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.training.artifacts import LOGS, SAVED_MODEL
from schemas.records import Training
from tests.chain import copy_project, with_settings
from tests.components.train_model.jobs import checkpoints_of, go_on, read_logs, train_and_die
from tests.forked import forked

EVERY = 4  # steps between checkpoints, of 6 in an epoch


@pytest.fixture(scope="module")
def undisturbed(chain):
    """The chain's own first instance; how often checkpoints are written decides nothing."""
    return Training.read(chain.model("instance-1"))


@pytest.fixture(scope="module")
def killed(chain, tmp_path_factory):
    """A project whose training was killed in its second epoch, in the second step after a checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    project = with_settings(copy_project(chain, folder / "digits"), "train", checkpoint_steps=EVERY)
    with pytest.raises(RuntimeError, match="ended with code -9"):
        forked(train_and_die, project, chain, folder / "killed", 4)
    return project, folder


@pytest.fixture(scope="module")
def resumed(chain, killed):
    project, folder = killed
    left = sorted(path.name for path in checkpoints_of(project))
    return {**forked(go_on, project, chain, folder), "before": left}


def assert_same_training(record, folder, undisturbed, chain):
    for name in ("train_loss", "eval_loss", "eval_metric"):
        found, expected = (
            [getattr(epoch, name) for epoch in each.epochs] for each in (record, undisturbed)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=name)
    assert record.best_epoch == undisturbed.best_epoch
    weights = [
        np.load(each / SAVED_MODEL / "assets.extra" / "weights.npz")
        for each in (folder, chain.model("instance-1"))
    ]
    for name in weights[1].files:
        np.testing.assert_allclose(weights[0][name], weights[1][name], atol=1e-4, err_msg=name)


def test_it_was_killed_between_checkpoints(resumed):
    assert resumed["before"] == ["step-000000000006.npz", "step-000000000008.npz"]


def test_it_goes_on_and_ends_as_if_nothing_had_happened(chain, killed, resumed, undisturbed):
    record = resumed["whole"]
    assert (record.resumed_from, record.notes) == (1, [])
    assert_same_training(record, killed[1] / "whole", undisturbed, chain)


def test_a_cut_checkpoint_is_left_for_an_older_one(chain, killed, resumed, undisturbed):
    record = resumed["cut"]
    assert record.resumed_from == 1 and len(record.notes) == 1
    assert "step-000000000008.npz was ignored, as it cannot be read" in record.notes[0]
    assert_same_training(record, killed[1] / "cut-output", undisturbed, chain)


def test_a_checkpoint_of_another_architecture_is_told_with_its_file(resumed):
    message = resumed["changed"]
    assert message.startswith("TrainingError: checkpoint ") and "step-000000000008.npz" in message
    assert "must be of the model that build_model builds now" in message
    assert "[768, 64] there and [768, 65] here" in message
    assert "Remove " in message and "to train from the start" in message


def test_checkpoints_are_removed_in_the_end(resumed):
    assert resumed["left"] == [[], []]


def test_its_logs_are_whole(chain, killed, undisturbed):
    """Each step and each epoch once, before and after it was killed, as in one that was not."""
    resumed, whole = forked(read_logs, killed[1] / "whole" / LOGS, chain.model("instance-1") / LOGS)
    assert resumed.keys() == whole.keys()
    for name, points in resumed.items():
        assert [step for step, _ in points] == [step for step, _ in whole[name]], name
        np.testing.assert_allclose(
            [v for _, v in points], [v for _, v in whole[name]], rtol=1e-3, err_msg=name
        )
    losses = [epoch.eval_loss for epoch in undisturbed.epochs]
    np.testing.assert_allclose(
        [value for _, value in resumed["eval/epoch_loss"]], losses, rtol=1e-4
    )
    assert [step for step, _ in resumed["train/batch_loss"]] == list(range(1, 25))
