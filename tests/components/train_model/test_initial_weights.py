"""What an instance starts from.

The champion shrunk and perturbed, the stabilised draw, the tuner's values.
"""

from __future__ import annotations

import numpy as np
import pytest

from perennial.project import load_project
from perennial.training.artifacts import LOGS, SAVED_MODEL
from schemas.records import Hyperparameters, Instance
from tests.chain import copy_project, with_settings
from tests.components.train_model.jobs import (
    COLD,
    patch_small_model,
    read_logs,
    train_each,
    train_from_champion,
)
from tests.forked import forked

PATCHED = Instance(name="patched-1", seed=17, start="patched")
WARM_UP = 4
TAKES_HP = (
    "def build_model(transform_output, hp):\n    units = hp.Int('units', 8, 128, default=64)\n"
)


def test_patching_shrinks_and_perturbs_what_is_trained():
    found = forked(patch_small_model)
    fresh, champion, patched = found["fresh"], found["champion"], found["patched"]
    trained = {"norm/gamma", "norm/beta", "head/kernel", "head/bias"}
    assert trained < patched.keys()
    for name, weights in patched.items():
        mixed = 0.5 * champion[name] + 0.1 * fresh[name]
        np.testing.assert_allclose(
            weights, mixed if name in trained else champion[name], rtol=1e-6, err_msg=name
        )


@pytest.fixture(scope="module")
def patched(chain, tmp_path_factory):
    """Case -> a patched instance's training, beside the chain's second instance as the champion."""
    folder = tmp_path_factory.mktemp("patched")
    project = with_settings(copy_project(chain, folder / "digits"), "train", epochs=1)
    project = with_settings(project, "patch", warm_up_steps=WARM_UP)
    return folder, forked(train_from_champion, project, chain, PATCHED, folder)


def test_it_starts_near_the_champion_and_warms_up(chain, patched):
    folder, found = patched
    record, cold = found["champion"], found["none"]
    assert record.notes == [] and record.instance == PATCHED and record.weights_from == "champion"
    assert record.epochs[0].eval_loss < cold.epochs[0].eval_loss
    (curves,) = forked(read_logs, folder / "champion" / LOGS)
    rates = [value for _, value in curves["train/learning_rate"]]
    full = record.hyperparameters.learning_rate
    np.testing.assert_allclose(
        rates[: WARM_UP + 1], [full / 4, full / 2, 3 * full / 4, full, full], rtol=1e-5
    )


def test_without_a_champion_it_trains_cold_and_says_so(patched):
    assert patched[1]["none"].weights_from == "draw"
    assert patched[1]["none"].notes == [
        "there is no champion to patch yet; started from the stabilised weights"
    ]


def test_a_champion_of_another_shape_is_not_patched(patched):
    (note, *_) = patched[1]["other shape"].notes
    assert note.startswith("champion version 1 could not be patched: `")
    assert "[768, 64] there and [768, 48] here; started from the stabilised weights" in note


def test_a_champion_that_is_not_what_was_evaluated_is_refused(patched):
    folder, found = patched
    message = found["wrong digest"]
    assert message.startswith("IntegrityError: model in ") and "must have the SHA-256" in message
    assert not (folder / "wrong digest" / SAVED_MODEL).exists()


def test_a_champion_that_the_registry_lacks_is_told(patched):
    (note,) = patched[1]["not there"].notes
    assert note.startswith(
        "champion version 99 could not be patched: version 99 of digits must be in the registry"
    )
    assert note.endswith("started from the stabilised weights")


@pytest.fixture(scope="module")
def tuned(chain, tmp_path_factory):
    """Instances by rank among two of the tuner's best."""
    folder = tmp_path_factory.mktemp("tuned")
    project = copy_project(chain, folder / "digits")
    text = project.module_path.read_text().replace("def build_model(transform_output):\n", TAKES_HP)
    project.module_path.write_text(text.replace("Dense(64,", "Dense(units,"))
    project = with_settings(load_project(project.folder), "train", epochs=1)
    best = [
        Hyperparameters(learning_rate=0.01, batch_size=64, model={"units": 64}, source="tuner"),
        Hyperparameters(learning_rate=0.02, batch_size=32, model={"units": 40}, source="tuner"),
    ]
    instances = [
        COLD.model_copy(update={"rank": rank, "name": f"rank-{rank}"}) for rank in (0, 1, 7)
    ]
    return best, forked(train_each, project, chain, best, instances, folder)


def test_each_takes_its_rank_or_the_last(tuned):
    best, found = tuned
    assert [found[name].hyperparameters for name in ("rank-0", "rank-1", "rank-7")] == [
        best[0],
        best[1],
        best[1],
    ]
    assert found["rank-0"].parameters > found["rank-1"].parameters == found["rank-7"].parameters


def test_a_tuned_model_takes_the_stabilised_weights_that_fit(tuned):
    found = tuned[1]
    assert found["rank-0"].notes == []
    (note,) = found["rank-1"].notes
    # The two convolutions fit and the last layer's bias; the layers before and after the new width
    # do not.
    assert note.startswith(
        "5 of 8 weights came from the stabilised draw, as the tuned model differs: `"
    )
    assert "[768, 64] there and [768, 40] here" in note
