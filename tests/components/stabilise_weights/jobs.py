"""What runs in a warm process for the tests of stabilising."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.project import Project
from schemas.records import Hyperparameters, Stabilisation, Tuned
from tests.chain import Chain, with_module, with_settings


def start_from_pretrained(
    project: Project, features: Path, output: Path
) -> tuple[Stabilisation, dict[str, float]]:
    """With weights of every kind in `pretrained/weights.npz`.

    The record, and how far each weight is from them.
    """
    import numpy as np

    from components.stabilise_weights.step import stabilise_weights
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.transformed_features import TransformedFeatures
    from perennial.training.weights import load_weights, save_weights, weights_of

    fresh = weights_of(ModelBuilder(project, TransformedFeatures(features, project.tasks)).build())
    *learner, head_kernel, head_bias = fresh
    learned = {name: np.full_like(fresh[name], 0.05) for name in learner}
    other = {
        head_kernel: np.ones((3, 4), np.float32),
        "pretext/kernel": np.ones((2, 2), np.float32),
    }
    save_weights(learned | other, output / "pretrained" / "weights.npz")
    slow = with_settings(project, "train", learning_rate=1e-7)
    record = stabilise_weights(slow, features, output / "pretrained", None, output / "weights")
    found = load_weights(output / "weights" / "weights.npz")
    return record, {
        name: float(np.abs(found[name] - 0.05).max()) for name in (*learner, head_kernel, head_bias)
    }


def fit_chosen(chain: Chain) -> tuple[str, list[str]]:
    """How the chosen weights fit a model of other initial weights, and what lies in the folder."""
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.transformed_features import TransformedFeatures
    from perennial.training.weights import assign_weights, load_weights

    project = chain.project
    model = ModelBuilder(project, TransformedFeatures(chain.features, project.tasks)).build()
    fitted = assign_weights(model, load_weights(chain.weights / "weights.npz"))
    return str(fitted), sorted(path.name for path in chain.weights.iterdir())


def start_from_tuned(project: Project, features: Path, output: Path) -> dict[str, list[int]]:
    """Shapes of the last hidden layer's kernel.

    Of an earlier search of this space, and of another one.
    """
    from components.stabilise_weights.step import stabilise_weights
    from perennial.training.hyperparameters import space_digest
    from perennial.training.weights import load_weights

    project = with_module(
        project, "def build_model(transform_output)", "def build_model(transform_output, hp)"
    )
    project = with_module(
        project, "layers.Dense(64,", "layers.Dense(hp.Int('units', 8, 64, default=64),"
    )
    project = with_settings(project, "stabilise", draws=1, steps=2)
    best = Hyperparameters(learning_rate=0.001, batch_size=16, model={"units": 24}, source="tuner")
    found = {}
    for case, space in (("same space", space_digest(project)), ("another space", "of last year")):
        tuned = Tuned(best=[best], space=space, at="2026-01-01T00:00:00+00:00", run="run-0")
        stabilise_weights(project, features, None, tuned, output / case)
        weights = load_weights(output / case / "weights.npz")
        found[case] = list(weights["dense/kernel"].shape)
    return found


def fail_each(project: Project, features: Path, output: Path) -> dict[str, str]:
    """Case -> what is said."""
    values = project.settings.model.tasks[0].model_copy(update={"kind": "regression"})
    of_values = with_settings(project, "model", tasks=[values])
    cases = {
        "diverges": with_settings(project, "train", learning_rate=1e30),
        "no classes to balance": with_settings(of_values, "train", balance="class_weights"),
    }
    found = {}
    for case, changed in cases.items():
        found[case] = _message(changed, features, output / case)
    pixels = "x = keras.layers.Reshape((SIDE, SIDE, 1))(pixels)"
    broken = with_module(project, pixels, "x = keras.layers.Reshape((SIDE, SIDE, 2))(pixels)")
    found["does not build"] = _message(broken, features, output / "does not build")
    return found


def _message(project: Project, features: Path, output: Path) -> str:
    from components.stabilise_weights.step import stabilise_weights

    try:
        stabilise_weights(project, features, None, None, output / "weights")
    except PerennialError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def count_dead_units() -> dict[str, float | None]:
    """Way to write a ReLU -> the share of dead units that is found, of 8 units of which 2 can never give anything."""
    import keras
    import numpy as np

    from components.stabilise_weights.dead_units import dead_units

    probe = {
        "x": keras.ops.convert_to_tensor(np.linspace(-1, 1, 60, dtype="float32").reshape(10, 6))
    }
    return {name: dead_units(model, probe) for name, model in _models().items()}


def _models() -> dict[str, Any]:
    import keras

    layers = keras.layers

    def dense(activation: str | None = None) -> Any:
        bias = keras.initializers.Constant(keras.ops.array([-1e6, -1e6, 9, 9, 9, 9, 9, 9]))
        return layers.Dense(8, activation=activation, bias_initializer=bias)

    class Block(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dense()

        def call(self, x: Any) -> Any:
            return keras.activations.relu(self.inner(x))

    def model(*middle: Any) -> Any:
        x = keras.Input((6,), name="x")
        y = x
        for layer in middle:
            y = layer(y)
        return keras.Model({"x": x}, layers.Dense(3, activation="softmax")(y))

    inner = keras.Input((6,))
    nested = keras.Model(inner, layers.ReLU()(dense()(inner)))
    image = [
        layers.Reshape((6, 1)),
        layers.Conv1D(8, 2, bias_initializer=dense().bias_initializer, activation="relu"),
    ]
    return {
        "activation of a layer": model(dense("relu")),
        "layer of its own": model(dense(), layers.Activation("relu")),
        "nested model": model(nested),
        "model in a model in a model": model(keras.Sequential([keras.Sequential([dense("relu")])])),
        "block with a function": model(Block()),
        "channels of a convolution": model(*image, layers.GlobalAveragePooling1D()),
        "two of them": model(
            dense("relu"), layers.Dense(8, activation="relu", kernel_initializer="ones")
        ),
        "none": model(dense("tanh")),
    }
