"""A trained learner under new tasks: frozen, fine-tuned, from memory or from files.

And what does not fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial import blocks
from perennial.tasks import Task
from perennial.training.weights import load_weights, save_weights
from tests.forked import forked
from tests.perennial.blocks.jobs import DIGIT, accuracy, digits, digits_model, error_of, part, train

REMAINDER = (Task("remainder", "multi_class", "remainder"),)
FEW = 32


def remainders() -> dict[str, Any]:
    """What is left of each digit when it is divided by three."""
    return {"remainder": digits()[1]["prediction"] % 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The weights of a model that reads digits, where an exported model has them."""
    folder = tmp_path_factory.mktemp("trained") / "saved_model"
    forked(write_trained, folder)
    return folder


def write_trained(folder: Path) -> None:
    import keras

    from perennial.training.weights import weights_of

    keras.utils.set_random_seed(1)
    model, (features, labels) = digits_model(), digits()
    train(model, part(features, 0, 1200), part(labels, 0, 1200), DIGIT, epochs=3)
    save_weights(weights_of(model), folder / "assets.extra" / "weights.npz")


def taught_remainders(trained: Path | None, frozen: bool) -> dict[str, Any]:
    """Teaches the remainders of digits with a few examples.

    Gives weights before and after, and the accuracy.
    """
    import keras

    from perennial.training.weights import weights_of

    keras.utils.set_random_seed(2)
    model = digits_model(None, blocks.multi_class(3, "remainder"))
    if trained:
        assert blocks.reuse_learner(model, trained, frozen=frozen) is model
    before = weights_of(model)
    features, labels, rate = digits()[0], remainders(), 0.05 if trained and frozen else 0.003
    losses = train(
        model, part(features, 1200, 1200 + FEW), part(labels, 1200, 1200 + FEW), REMAINDER, 40, rate
    )
    return {
        "before": before,
        "after": weights_of(model),
        "right": accuracy(model, part(features, 1200 + FEW), part(labels, 1200 + FEW), "remainder"),
        "learning": [weight.path for weight in model.trainable_variables],
        "losses": losses,
    }


def of_learner(weights: dict[str, Any]) -> dict[str, Any]:
    return {path: array for path, array in weights.items() if not path.startswith("task/")}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[path].tobytes() == other[path].tobytes() for path in one
    )


@pytest.fixture(scope="module")
def frozen(trained):
    return forked(taught_remainders, trained, True)


def test_frozen_learner_stays_bit_for_bit_as_it_was_trained(trained, frozen):
    weights, found = load_weights(trained / "assets.extra" / "weights.npz"), frozen
    assert same(of_learner(found["before"]), of_learner(weights))
    assert same(of_learner(found["after"]), of_learner(weights)), "running statistics too"
    assert found["learning"] == ["task/remainder/kernel", "task/remainder/bias"]
    assert not np.array_equal(
        found["before"]["task/remainder/kernel"], found["after"]["task/remainder/kernel"]
    )
    assert found["losses"][-1] < found["losses"][0]


def test_fine_tuning_goes_on_from_the_trained_weights(trained):
    weights = load_weights(trained / "assets.extra" / "weights.npz")
    found = forked(taught_remainders, trained, False)
    assert same(of_learner(found["before"]), of_learner(weights))
    changed = [
        path
        for path, array in of_learner(found["after"]).items()
        if not np.array_equal(array, weights[path])
    ]
    assert set(changed) == set(of_learner(weights))


def test_few_examples_teach_more_with_a_trained_learner(frozen):
    anew = forked(taught_remainders, None, False)
    assert frozen["right"] > 0.8 and frozen["right"] > anew["right"] + 0.05


def from_everywhere(trained: Path) -> list[bool]:
    """Whether the learner is the trained one.

    From memory, by path, from an .npz file, into a part of a model.
    """
    from perennial.training.weights import weights_of

    weights = load_weights(trained / "assets.extra" / "weights.npz")
    source = digits_model()
    for weight in source.weights:
        weight.assign(weights[weight.path])
    found = []
    for given in (source, weights, str(trained), trained / "assets.extra" / "weights.npz"):
        model = blocks.reuse_learner(
            digits_model(None, blocks.regression("size"), blocks.binary("is_even")), given
        )
        found.append(same(of_learner(weights_of(model)), of_learner(weights)))
    found.append(same(weights_of(source), weights))
    partly = blocks.reuse_learner(digits_model(), source, layers=["learner"])
    carried = weights_of(partly)
    found.append(
        np.array_equal(
            carried["learner/group1/block1/conv1/kernel"],
            weights["learner/group1/block1/conv1/kernel"],
        )
    )
    found.append(not np.array_equal(carried["stem/conv/kernel"], weights["stem/conv/kernel"]))
    found.append(partly.get_layer("stem").trainable and not partly.get_layer("learner").trainable)
    # A stem without weights, as one of numbers alone, has nothing to be carried.
    plain = [
        blocks.assemble(blocks.table_stem(["a", "b"]), blocks.mlp((4,)), blocks.binary())
        for _ in range(2)
    ]
    blocks.reuse_learner(plain[0], plain[1])
    found.append(same(of_learner(weights_of(plain[0])), of_learner(weights_of(plain[1]))))
    return found


def test_a_learner_comes_from_memory_or_from_files(trained):
    assert all(forked(from_everywhere, trained))


def frozen_call() -> list[bool]:
    """Whether a frozen learner runs in training as in inference.

    Without dropout and with its own statistics.
    """
    import tensorflow as tf

    found = []
    table = {"a": tf.random.normal([8])}
    for model, given in (
        (
            blocks.assemble(blocks.table_stem(["a"]), blocks.mlp(dropout=0.5), blocks.binary()),
            table,
        ),
        (
            blocks.assemble(
                blocks.table_tokens(["a"]), blocks.transformer_encoder(dropout=0.5), blocks.binary()
            ),
            table,
        ),
        (digits_model(), {"pixels": tf.random.uniform([8, 64])}),
    ):
        trains, infers = (
            model(given, training=True)["latent"],
            model(given, training=False)["latent"],
        )
        blocks.reuse_learner(model, model)
        frozen, again = (
            model(given, training=True)["latent"],
            model(given, training=False)["latent"],
        )
        found += [not np.allclose(trains, infers), np.array_equal(frozen, again)]
    return found


def test_frozen_learner_runs_as_in_inference():
    assert all(forked(frozen_call))


def refusals(trained: Path, folder: Path) -> dict[str, str]:
    damaged = folder / "damaged" / "assets.extra" / "weights.npz"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no weights")
    weights = load_weights(trained / "assets.extra" / "weights.npz")
    flat = {path.removeprefix("learner/"): array for path, array in weights.items()}
    model = digits_model()
    before = [weight.numpy() for weight in model.weights]
    deeper = digits_model(blocks.residual_groups(groups=2, blocks=2, filters=16))
    wider = digits_model(blocks.residual_groups(groups=2, blocks=1, filters=32))
    found = {
        "new": error_of(blocks.reuse_learner, model, trained, layers=["learnr"]),
        "trained": error_of(blocks.reuse_learner, model, flat),
        "empty": error_of(blocks.reuse_learner, model, {}),
        "deeper": error_of(blocks.reuse_learner, deeper, trained),
        "shallower": error_of(blocks.reuse_learner, model, deeper),
        "wider": error_of(blocks.reuse_learner, wider, trained),
        "nowhere": error_of(blocks.reuse_learner, model, folder / "nowhere"),
        "damaged": error_of(blocks.reuse_learner, model, folder / "damaged"),
        "no names": error_of(blocks.reuse_learner, model, trained, layers=[]),
    }
    unchanged = all(
        np.array_equal(old, weight.numpy())
        for old, weight in zip(before, model.weights, strict=True)
    )
    return {**found, "unchanged": str(unchanged)}


def test_what_cannot_be_reused_is_said(trained, tmp_path):
    found = forked(refusals, trained, tmp_path)
    assert found["new"] == (
        "ProjectError: blocks.reuse_learner: layers must name layers of the new model "
        "(learner, latent, stem, task, pixels). Received: learnr. Did you mean `learner`?"
    )
    assert found["trained"] == (
        "ProjectError: blocks.reuse_learner: layers must name layers of the trained model "
        "(stem, task, group1, group2). Received: learner. Name one of them in `layers`."
    )
    assert "layers of the trained model (none). Received: stem" in found["empty"]
    where = (
        "ProjectError: blocks.reuse_learner: learner must have the weights that it was trained "
        "with. Received: "
    )
    remedy = "Build it with the arguments that it had then, or leave it out of `layers`."
    for case, first in {
        "deeper": "learner/group1/block2/conv1/kernel is missing there and [3, 3, 16, 16] here, and ",
        "shallower": "learner/group1/block2/conv1/kernel is [3, 3, 16, 16] there and missing here, and ",
        "wider": "learner/group1/block1/conv1/kernel is [3, 3, 8, 16] there and [3, 3, 8, 32] here, and ",
    }.items():
        assert found[case].startswith(where + first) and found[case].endswith(remedy)
    for case in ("nowhere", "damaged"):
        assert (
            f"{tmp_path / case} must be a SavedModel that Perennial exported, or an .npz file"
            in found[case]
        )
        assert found[case].endswith("Name the folder that holds saved_model.pb.")
    assert found["no names"].startswith(
        "ValueError: blocks.reuse_learner: layers must be one name or more"
    )
    assert found["unchanged"] == "True", "a model that does not fit is left as it was"
