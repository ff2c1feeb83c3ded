"""Training: what is exported is the best epoch, and serves as it was measured; mistakes are named by their line."""

from __future__ import annotations

import numpy as np
import pytest

from components.stabilise_weights.step import choose_draw, read_stabilisation
from components.train_model.step import SAVED_MODEL, read_training
from components.tune_model.step import read_hyperparameters
from perennial.digests import digest_folder
from tests.components.chain import copy_project
from tests.components.forked import forked
from tests.components.train_model.jobs import build_each, diverge, serve_eval_split, train_on_devices

INSTANCES = ["instance-1", "instance-2"]
WIDE = "    pixels = keras.Input((64,), name='pixels')\n"
BODIES = {
    "raises": "    units = 3\n    raise ValueError('no such layer')\n",
    "too narrow": WIDE + "    return keras.Model({'pixels': pixels}, keras.layers.Dense(5)(pixels))\n",
    "logits": WIDE + "    return keras.Model({'pixels': pixels}, keras.layers.Dense(10)(pixels))\n",
    "no batch": WIDE + "    return keras.Model({'pixels': pixels}, keras.ops.sum(keras.layers.Dense(10)(pixels)))\n",
    "dictionary": WIDE + "    return keras.Model({'pixels': pixels}, {'scores': keras.layers.Dense(10)(pixels)})\n",
    "nothing": "    return None\n",
    "other feature": "    x = keras.Input((3,))\n    return keras.Model({'x': x}, keras.layers.Dense(10)(x))\n",
}


@pytest.fixture(scope="module")
def served(chain):
    saved_model = chain.model("instance-1") / SAVED_MODEL
    return forked(serve_eval_split, chain.project, saved_model, chain.window)


def test_every_draw_was_tried_and_the_best_goes_on(chain):
    record, settings = read_stabilisation(chain.weights), chain.project.settings
    assert [draw.seed for draw in record.draws] == [settings.train.seed, settings.train.seed + 1]
    assert all(len(draw.losses) == settings.stabilise.steps and draw.finite for draw in record.draws)
    assert all(draw.gradient_norm > 0 and 0 <= draw.dead_units <= 1 for draw in record.draws)
    assert record.chosen == choose_draw(record.draws)


def test_hyperparameters_say_who_chose_them(chain):
    found, train = read_hyperparameters(chain.hyperparameters), chain.project.settings.train
    assert (found.learning_rate, found.batch_size, found.source) == (train.learning_rate, train.batch_size, "settings")


@pytest.mark.parametrize("name", INSTANCES)
def test_the_record_tells_the_training(chain, name):
    record = read_training(chain.model(name))
    losses = [epoch.eval_loss for epoch in record.epochs]
    assert len(losses) == chain.project.settings.train.epochs and record.best.eval_loss == min(losses)
    assert record.epochs[-1].train_loss < record.epochs[0].train_loss
    assert (record.strategy, record.replicas) == ("one_device", 1)
    assert record.digest == digest_folder(chain.model(name) / SAVED_MODEL)


def test_instances_differ(chain):
    one, two = (read_training(chain.model(name)) for name in INSTANCES)
    assert one.instance.seed != two.instance.seed and one.epochs != two.epochs and one.digest != two.digest


def test_exported_model_gives_raw_examples_the_loss_and_accuracy_of_the_best_epoch(chain, served):
    """From raw features, so the transform inside the served model is the one that training saw."""
    best, labels = read_training(chain.model("instance-1")).best, served["labels"]
    scores = served["features"]["probabilities"]
    assert (scores.argmax(axis=1) == labels).mean() == pytest.approx(best.eval_accuracy)
    assert -np.log(scores[np.arange(len(labels)), labels]).mean() == pytest.approx(best.eval_loss, rel=1e-4)


def test_signatures(served):
    assert served["signatures"] == {"serving_default": ["image"], "serve_examples": ["examples"]}
    for signature in ("features", "examples"):
        scores, classes = served[signature]["probabilities"], served[signature]["class"]
        assert scores.dtype == np.float32 and scores.shape == (len(served["labels"]), 10)
        assert classes.dtype == np.int64 and (classes == scores.argmax(axis=1)).all()
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(served["features"]["probabilities"], served["examples"]["probabilities"], atol=1e-6)


def test_loss_that_is_no_number_ends_in_a_clear_message(chain, tmp_path):
    for step, message in forked(diverge, chain, tmp_path).items():
        assert message.startswith("TrainingError: ") and "finite" in message, step
        assert "train.learning_rate" in message and "preprocessing_fn" in message


@pytest.fixture(scope="module")
def messages(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    project = copy_project(chain, folder / "digits")
    return forked(build_each, project, chain.features, BODIES, folder)


@pytest.mark.parametrize(
    "case, after, says",
    [
        ("raises", 2, "must build a model of the features ['pixels']. Received: ValueError: no such layer"),
        (
            "too narrow",
            0,
            "must give probabilities for at least 10 classes, [batch, classes]. Received: output of shape",
        ),
        ("logits", 0, "must give probabilities that sum to 1"),
        ("no batch", 0, "must give probabilities for at least 10 classes"),
        ("dictionary", 0, "Received: output of type dict"),
    ],
)
def test_model_that_does_not_fit_names_its_line(messages, chain, case, after, says):
    lines = chain.project.module_path.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("def build_model")) + after
    assert messages[case].startswith(f"ProjectError: model.py:{line}: build_model ") and says in messages[case]


@pytest.mark.parametrize("case", ["nothing", "other feature"])
def test_model_that_cannot_take_the_features(messages, case):
    assert messages[case].startswith("ProjectError: model.py: build_model must build a model of the features")


@pytest.mark.parametrize("scale", [1.0, 60.0], ids=["small gradients", "clipped gradients"])
def test_two_devices_train_as_one_does(scale):
    """The same global batches; the last of each pass holds one example, so one replica has none."""
    found = forked(train_on_devices, scale)
    one, two = found["one_device"], found["mirrored"]
    assert (one["replicas"], two["replicas"]) == (1, 2)
    for run in (one, two):
        loss, norm = run["first"]
        assert run["losses"][0] == pytest.approx(loss, rel=1e-4) and run["norms"][0] == pytest.approx(norm, rel=1e-4)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-3)
    np.testing.assert_allclose(two["norms"], one["norms"], rtol=1e-2)
    np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-4)
    assert (max(one["norms"]) > 5) == (scale > 1)
