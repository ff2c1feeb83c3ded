"""The user's model: what is wrong with it is told with the line of the user's file."""

import os
import re
import shutil

import pytest

from schemas.records import NotFinite
from tests.forked import forked
from tests.perennial.training import jobs

LAST = 'keras.layers.Dense(CLASSES, activation="softmax")(x)'

MISTAKES = {
    "does not build": (
        "keras.layers.Flatten()",
        "keras.layers.Flaten()",
        r"model\.py:\d+: build_model must build a model.*Flaten",
    ),
    "does not take the features": (
        'keras.Model({"pixels": pixels}',
        'keras.Model({"pixel": pixels}',
        r"must build a model that takes the features pixels\.",
    ),
    "returns no model": (
        "return keras.Model(",
        "return ('a', ",
        r"model\.py:\d+: build_model must return a Keras model\. Received: tuple",
    ),
    "has nothing to train": (
        f'return keras.Model({{"pixels": pixels}}, {LAST})',
        f'm = keras.Model({{"pixels": pixels}}, {LAST})\n    m.trainable = False\n    return m',
        r"model\.py:\d+: build_model .*without trainable weights\. Add a layer",
    ),
    "has too few classes": (
        "CLASSES = 10",
        "CLASSES = 6",
        r"model\.py:\d+: build_model must give at least 10 probabilities for each example, one for "
        r"each class of the multi_class task `prediction`\. Received: an output of shape \[batch, 6\]",
    ),
    "has another shape": (
        LAST,
        "keras.layers.Reshape((1, 64))(x)",
        r"must give at least 10 probabilities.*output of shape \[batch, 1, 64\]",
    ),
    "gives no probabilities": (
        LAST,
        "keras.layers.Dense(CLASSES, bias_initializer='ones')(x)",
        r"must give probabilities that sum to 1.*End it with a softmax, or set model\.tasks\[\]\.output to logits",
    ),
    "is compiled": (
        f'return keras.Model({{"pixels": pixels}}, {LAST})',
        f'm = keras.Model({{"pixels": pixels}}, {LAST})\n'
        '    m.compile(optimizer="sgd", loss="mae")\n    return m',
        r"model\.py:32 must leave the training to Perennial.*Received: a compiled model "
        r"\(optimizer SGD\)\. Remove it",
    ),
    "has its own training step": (
        f'return keras.Model({{"pixels": pixels}}, {LAST})',
        "class Own(keras.Model):\n        def train_step(self, data):\n            return {}\n\n"
        f'    return Own({{"pixels": pixels}}, {LAST})',
        r"model\.py:32: train_step must leave the training to Perennial.*its own `train_step`",
    ),
    "gives another task": (
        LAST,
        f"{{'other': {LAST}}}",
        r"must give an output for each task: `prediction` \(multi_class\).*named other, without prediction",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_model_that_does_not_fit_is_told_with_its_line(chain, chain_project, mistake):
    old, new, message = MISTAKES[mistake]
    found = forked(jobs.build_error, chain_project, chain.features, old, new)
    assert re.search(message, found), found


def test_logits_become_probabilities_where_the_settings_say_so(chain, chain_project):
    """The same weights, the same paths: only the softmax is not the user's any more."""
    same, paths = forked(jobs.with_logits, chain_project, chain.features)
    assert same and paths[0] == paths[1]


def test_labels_that_are_not_finite_are_named_and_not_the_learning_rate(
    chain, chain_project, tmp_path
):
    features = tmp_path / "features"
    shutil.copytree(chain.features, features, copy_function=os.link)
    (features / NotFinite.FILE).unlink()
    NotFinite(rows=90, examples={"pixels": 5, "label": 3}).write(features)
    found = forked(jobs.build_error, chain_project, features, "CLASSES = 10", "CLASSES = 10")
    assert re.search(
        r"model\.py:\d+: preprocessing_fn must give finite numbers\. Received: the label `label` is "
        r"NaN or infinite in 3 of 90 examples, `pixels` is NaN or infinite in 5 of 90",
        found,
    ), found


def test_weights_go_by_path_and_shape(chain, chain_project):
    found = forked(jobs.fitted, chain_project, chain.features)
    assert found["whole"] == "8 of 8 weights" and found["equal"]
    assert found["part"] == "5 of 8 weights"
    assert set(found["left"]) == {"dense/kernel", "dense/bias", "dense_1/kernel"}
    assert found["left"]["dense/bias"] == "[64] there and [65] here"
    assert "damaged" in found["cut"]


def test_the_latent_vector_is_what_a_layer_gives(chain, chain_project):
    assert forked(jobs.latent_of, chain_project, chain.features, None) == (3, 64)
    assert forked(jobs.latent_of, chain_project, chain.features, "flatten") == (3, 768)
    message = forked(jobs.latent_of, chain_project, chain.features, "flaten")
    assert message.startswith("project.yaml: model.latent must be a layer of the model (")
    assert message.endswith("Received: flaten. Did you mean `flatten`?")


def test_hyperparameters_are_those_that_the_model_asks_for(chain, chain_project):
    declared, shapes = forked(jobs.with_hyperparameters, chain_project, chain.features)
    assert declared == {"width": 32}
    assert [shape[1] for shape in shapes] == [32, 12]
