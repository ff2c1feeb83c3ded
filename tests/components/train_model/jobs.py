"""What runs in a warm process for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.project import Project
from tests.components.chain import Chain, with_settings

EXAMPLES, BATCH, WIDTH, CLASSES = 65, 16, 6, 3  # the last batch holds one example, which one of two replicas gets


def serve_eval_split(project: Project, saved_model: Path, window: Path) -> dict[str, Any]:
    """What the exported model answers for the raw eval examples, by either signature, and the labels."""
    import numpy as np
    import tensorflow as tf

    from perennial.examples import decode_records, read_records, split_files

    loaded = tf.saved_model.load(str(saved_model))
    records = list(read_records(split_files(window, "eval")))
    rows = decode_records(records).to_pylist()
    images = tf.constant([row["image"] for row in rows], tf.float32)
    features = loaded.signatures["serving_default"](image=images)
    examples = loaded.signatures["serve_examples"](examples=tf.constant(records))
    return {
        "signatures": {name: sorted(s.structured_input_signature[1]) for name, s in loaded.signatures.items()},
        "features": {name: value.numpy() for name, value in features.items()},
        "examples": {name: value.numpy() for name, value in examples.items()},
        "labels": np.array([row["label"][0] for row in rows]),
    }


def message_of(work: Any, *arguments: Any) -> str:
    try:
        work(*arguments)
    except PerennialError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def diverge(chain: Chain, output: Path) -> dict[str, str]:
    """Step -> what it says when the learning rate is absurd."""
    from components.stabilise_weights.step import stabilise_weights
    from components.train_model.step import Inputs, train_model
    from components.tune_model.step import tune_model

    project = with_settings(chain.project, "train", learning_rate=1e30)
    tune_model(project, output / "hyperparameters")
    inputs = Inputs(chain.features, chain.weights, output / "hyperparameters")
    instance = chain.selection.instances[0]
    return {
        "stabilise_weights": message_of(stabilise_weights, project, chain.features, output / "weights"),
        "train_model": message_of(train_model, project, instance, inputs, output / "model"),
    }


def build_each(project: Project, features: Path, bodies: dict[str, str], output: Path) -> dict[str, str]:
    """Case -> what is said of a model.py whose `build_model` has this body."""
    from components.stabilise_weights.step import stabilise_weights

    text, found = project.module_path.read_text(), {}
    for case, body in bodies.items():
        head = text[: text.index("def build_model")]
        project.module_path.write_text(f"{head}def build_model(transform_output):\n{body}")
        found[case] = message_of(stabilise_weights, project, features, output / case)
    return found


def train_on_devices(scale: float) -> dict[str, Any]:
    """Strategy -> losses, gradient norms and weights after two passes; the same start, batches and order."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return {name: _train(name, scale) for name in ("one_device", "mirrored")}


def _train(name: str, scale: float) -> dict[str, Any]:
    import keras
    import numpy as np

    from perennial.modelling.features import batches
    from perennial.modelling.loop import Trainer, choose_strategy

    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    features = {"x": (random.normal(size=(EXAMPLES, WIDTH)) * scale).astype("float32")}
    labels = random.integers(0, CLASSES, EXAMPLES)
    trainer = Trainer(_small_model, choose_strategy(name), 0.01)
    steps = [
        trainer.train_step(*batch)
        for _ in range(2)
        for batch in trainer.distribute(batches(features, keras.ops.convert_to_tensor(labels), BATCH))
    ]
    return {
        "replicas": trainer.strategy.num_replicas_in_sync,
        "losses": [step.loss for step in steps],
        "norms": [step.gradient_norm for step in steps],
        "weights": np.concatenate([weights.ravel() for weights in trainer.model.get_weights()]),
        "first": _by_hand(features["x"][:BATCH], labels[:BATCH]),
    }


def _small_model() -> Any:
    import keras

    keras.utils.set_random_seed(2)
    x = keras.Input((WIDTH,), name="x")
    hidden = keras.layers.Dense(5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))(x)
    return keras.Model({"x": x}, keras.layers.Dense(CLASSES, activation="softmax")(hidden))


def _by_hand(features: Any, labels: Any) -> tuple[float, float]:
    """The first batch's mean loss and the norm of its gradient, in one plain tape."""
    import tensorflow as tf

    model = _small_model()
    with tf.GradientTape() as tape:
        scores = model({"x": features})
        losses = -tf.math.log(tf.gather(scores, labels, batch_dims=1))
        loss = tf.reduce_mean(losses)
        total = loss + tf.add_n(model.losses)
    return float(loss), float(tf.linalg.global_norm(tape.gradient(total, model.trainable_variables)))
