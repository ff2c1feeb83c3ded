"""Training: what is exported is the best epoch, and serves as it was measured.

Mistakes are named by their line.
"""

from __future__ import annotations

import numpy as np
import pytest

from perennial.storage.digests import digest_folder
from perennial.training.artifacts import LOGS, SAVED_MODEL
from schemas.records import Training
from tests.chain import copy_project
from tests.components.train_model.jobs import (
    read_logs,
    serve_eval_split,
    train_badly,
    train_with_each,
)
from tests.forked import forked

INSTANCES = ["instance-1", "instance-2"]
WIDE = "    pixels = keras.Input((64,), name='pixels')\n"
BODIES = {
    "raises": "    units = 3\n    raise ValueError('no such layer')\n",
    "too narrow": WIDE
    + "    return keras.Model({'pixels': pixels}, keras.layers.Dense(5)(pixels))\n",
    "logits": WIDE + "    return keras.Model({'pixels': pixels}, keras.layers.Dense(10)(pixels))\n",
    "no batch": WIDE
    + "    return keras.Model({'pixels': pixels}, keras.ops.sum(keras.layers.Dense(10)(pixels)))\n",
    "dictionary": WIDE
    + "    return keras.Model({'pixels': pixels}, {'scores': keras.layers.Dense(10)(pixels)})\n",
    "nothing": "    return None\n",
    "nothing to train": WIDE
    + "    return keras.Model({'pixels': pixels}, keras.layers.Softmax()(pixels))\n",
    "other feature": "    x = keras.Input((3,))\n    return keras.Model({'x': x}, keras.layers.Dense(10)(x))\n",
}
SETTINGS = {
    "diverges": {"learning_rate": 1e30, "epochs": 1},
    "no gpu": {"device": "gpu"},
    "no tpu": {"strategy": "tpu"},
    "class_weights": {"balance": "class_weights", "epochs": 1},
    "resample": {"balance": "resample", "epochs": 1},
    "scaled": {"base_batch_size": 64, "epochs": 1},
    "bfloat16": {"precision": "mixed_bfloat16", "epochs": 1},
}


@pytest.fixture(scope="module")
def served(chain):
    saved_model = chain.model("instance-1") / SAVED_MODEL
    return forked(serve_eval_split, chain.project, saved_model, chain.window)


@pytest.mark.parametrize("name", INSTANCES)
def test_the_record_tells_the_training(chain, name):
    record = Training.read(chain.model(name))
    losses = [epoch.eval_loss for epoch in record.epochs]
    assert len(losses) == chain.project.settings.train.epochs and record.best.eval_loss == min(
        losses
    )
    assert record.epochs[-1].train_loss < record.epochs[0].train_loss
    assert (record.strategy, record.replicas, record.workers, record.restarts) == (
        "one_device",
        1,
        1,
        0,
    )
    assert (record.metric, record.resumed_from, record.notes) == (
        "accuracy",
        None,
        [],
    ) and record.seconds > 0
    assert record.digest == digest_folder(chain.model(name) / SAVED_MODEL)


def test_instances_differ(chain):
    one, two = (Training.read(chain.model(name)) for name in INSTANCES)
    assert (
        one.instance.seed != two.instance.seed
        and one.epochs != two.epochs
        and one.digest != two.digest
    )


def test_exported_model_gives_raw_examples_the_loss_and_accuracy_of_the_best_epoch(chain, served):
    """From raw features, so the transform inside the served model is the one that training saw."""
    best, labels = Training.read(chain.model("instance-1")).best, served["labels"]
    scores = served["features"]["probabilities"]
    assert (scores.argmax(axis=1) == labels).mean() == pytest.approx(best.eval_metric)
    assert -np.log(scores[np.arange(len(labels)), labels]).mean() == pytest.approx(
        best.eval_loss, rel=1e-4
    )


def test_signatures(served):
    examples = ["examples"]
    expected = {
        "serving_default": ["image"],
        "serve_examples": examples,
        "label_examples": examples,
    }
    assert served["signatures"] == expected
    for signature in ("features", "examples"):
        scores, classes = served[signature]["probabilities"], served[signature]["class"]
        assert scores.dtype == np.float32 and scores.shape == (len(served["labels"]), 10)
        assert classes.dtype == np.int64 and (classes == scores.argmax(axis=1)).all()
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        served["features"]["probabilities"], served["examples"]["probabilities"], atol=1e-6
    )
    (told,) = served["told"].values()
    assert told.dtype == np.int64 and (told == served["labels"]).all()


def test_tensorboard_shows_the_curves_of_the_record(chain):
    record, (curves,) = (
        Training.read(chain.model("instance-1")),
        forked(read_logs, chain.model("instance-1") / LOGS),
    )
    for name, field in (
        ("train/epoch_loss", "train_loss"),
        ("eval/epoch_loss", "eval_loss"),
        ("eval/epoch_accuracy", "eval_metric"),
    ):
        expected = [(number, getattr(epoch, field)) for number, epoch in enumerate(record.epochs)]
        np.testing.assert_allclose(curves[name], expected, rtol=1e-6, err_msg=name)
    rate = record.hyperparameters.learning_rate
    np.testing.assert_allclose(
        [value for _, value in curves["train/learning_rate"]], rate, rtol=1e-6
    )
    assert all(value > 0 for _, value in curves["train/gradient_norm"])
    assert len(curves["train/gradient_norm"]) == len(curves["train/batch_loss"]) == 24


@pytest.fixture(scope="module")
def messages(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    project = copy_project(chain, folder / "digits")
    return forked(train_badly, project, chain, BODIES, folder)


@pytest.mark.parametrize(
    "case, after, says",
    [
        ("raises", 2, "must build a model. Received: ValueError: no such layer"),
        (
            "too narrow",
            0,
            "must give at least 10 probabilities for each example, one for each class of the "
            "multi_class task `prediction`. Received: an output of shape [batch, ",
        ),
        ("logits", 0, "must give probabilities that sum to 1 for `prediction`"),
        ("no batch", 0, "must give at least 10 probabilities for each example"),
        ("dictionary", 0, "Received: outputs named scores, without prediction"),
        ("nothing", 0, "must return a Keras model. Received: NoneType"),
        ("nothing to train", 0, "Received: a Functional without trainable weights"),
    ],
)
def test_model_that_does_not_fit_names_its_line(messages, chain, case, after, says):
    lines = chain.project.module_path.read_text().splitlines()
    line = (
        next(number for number, text in enumerate(lines, 1) if text.startswith("def build_model"))
        + after
    )
    assert (
        messages[case].startswith(f"ProjectError: model.py:{line}: build_model ")
        and says in messages[case]
    )


def test_model_that_cannot_take_the_features(messages):
    expected = (
        "ProjectError: model.py: build_model must build a model that takes the features pixels"
    )
    assert messages["other feature"].startswith(expected)


@pytest.fixture(scope="module")
def settings(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    return folder, forked(
        train_with_each, copy_project(chain, folder / "digits"), chain, SETTINGS, folder
    )


def test_nothing_that_failed_leaves_a_record(settings, messages):
    folder, found = settings
    failed = [case for case, result in found.items() if isinstance(result, str)]
    assert sorted(failed) == ["diverges", "no gpu", "no tpu"]
    assert not any(
        (folder / case / name).exists()
        for case in failed
        for name in (SAVED_MODEL, "training.json")
    )


def test_loss_that_is_no_number_names_the_lines_and_the_setting(chain, settings):
    message, lines = settings[1]["diverges"], chain.project.module_path.read_text().splitlines()
    build, prepare = (
        next(number for number, text in enumerate(lines, 1) if text.startswith(f"def {name}"))
        for name in ("build_model", "preprocessing_fn")
    )
    assert (
        message.startswith("TrainingError: ")
        and f"loss of instance-1 (model.py:{build}: build_model)" in message
    )
    assert "must be finite" in message and "lower train.learning_rate" in message
    assert f"Check the features' range in model.py:{prepare}: preprocessing_fn" in message


@pytest.mark.parametrize(
    "case, place, remedy",
    [
        ("no gpu", "project.yaml: train.device", "Set it to any or cpu"),
        ("no tpu", "project.yaml: train.strategy", "choose one_device, mirrored or multi_worker"),
    ],
)
def test_a_device_that_is_not_there(settings, case, place, remedy):
    message = settings[1][case]
    assert message.startswith(f"ProjectError: {place} ") and remedy in message


@pytest.mark.parametrize("case", ["class_weights", "resample"])
def test_rare_classes_can_count_more(chain, settings, case):
    """The same seed and the same first batch order.

    Only the balance makes another training of it.
    """
    record, as_it_is = settings[1][case], Training.read(chain.model("instance-1"))
    assert len(record.epochs) == 1 and np.isfinite(record.best.eval_loss)
    assert record.best.train_loss != as_it_is.epochs[0].train_loss


def test_the_learning_rate_goes_with_the_batch_size(chain, settings):
    folder, found = settings
    (curves,) = forked(read_logs, folder / "scaled" / LOGS)
    rate = found["scaled"].hyperparameters.learning_rate
    assert curves["train/learning_rate"][-1][1] == pytest.approx(rate * 32 / 64)


def test_precision_is_that_of_the_settings(chain, settings):
    """16-bit layers give another loss, near to that of 32-bit ones.

    Dropout draws otherwise in 16 bits.
    """
    record, whole = settings[1]["bfloat16"], Training.read(chain.model("instance-1"))
    assert record.best.train_loss == pytest.approx(whole.epochs[0].train_loss, rel=0.3)
    assert record.best.train_loss != whole.epochs[0].train_loss
