"""What the tests of the training core run in forked children, on the chain's transformed digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from perennial.project import Project, load_project

KEYS = "prediction"
DROPOUT = ("x = keras.layers.Dropout(0.3)(x)", "pass")  # old and new text for `changed`


def features_of(project: Project, folder: Path) -> Any:
    from perennial.training.transformed_features import TransformedFeatures

    return TransformedFeatures(folder, project.tasks)


def drawn(
    project: Project, folder: Path, plan: dict[str, Any], draws: list[dict[str, int]]
) -> list[list[np.ndarray]]:
    """For each of `draws` (arguments of `dataset`, and how many elements to `take`), the pixels of every element."""
    from perennial.training.batches import BatchPlan, TrainingBatches

    batches = TrainingBatches(features_of(project, folder), BatchPlan(**plan))
    found = []
    for arguments in draws:
        dataset = batches.dataset(
            **{name: value for name, value in arguments.items() if name != "take"}
        )
        found.append(
            [features["pixels"].numpy() for features, _ in dataset.take(arguments["take"])]
        )
    return found


def steps(project: Project, folder: Path, sizes: list[tuple[int, int]]) -> tuple[int, list[int]]:
    """How many examples there are, and the steps of an epoch for batch sizes and replicas."""
    from perennial.training.batches import BatchPlan, TrainingBatches

    features = features_of(project, folder)
    found = [
        TrainingBatches(features, BatchPlan(size, 1)).steps_per_epoch(replicas)
        for size, replicas in sizes
    ]
    return features.count("train"), found


def labels_shown(
    project: Project, folder: Path, balance: str, epochs: int
) -> tuple[list[float], list[int]]:
    """The share of each class in the split, and how often each was shown."""
    from perennial.training.batches import BatchPlan, TrainingBatches, class_shares

    features = features_of(project, folder)
    batches = TrainingBatches(features, BatchPlan(32, 3, balance))
    shown = [
        labels[KEYS].numpy()
        for _, labels in batches.dataset().take(epochs * batches.steps_per_epoch())
    ]
    return class_shares(features, project.tasks[0]), np.bincount(
        np.concatenate(shown), minlength=10
    ).tolist()


def with_logits(project: Project, folder: Path) -> tuple[bool, list[list[str]]]:
    """Whether a model of logits answers as the same one with a softmax, and both weights' paths."""
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.model_call import call_model
    from perennial.training.weights import assign_weights, weights_of

    features = features_of(project, folder)
    inputs, _ = features.sample("train", 8)
    one = ModelBuilder(project, features).build()
    text = project.module_path.read_text()
    project.module_path.write_text(text.replace(', activation="softmax"', ""))
    settings = yaml.safe_load((project.folder / "project.yaml").read_text())
    settings["model"] = {"tasks": [{"output": "logits"}]}
    (project.folder / "project.yaml").write_text(yaml.safe_dump(settings))
    builder = ModelBuilder(load_project(project.folder), features)
    two = builder.build()
    builder.check(two)
    assign_weights(two, weights_of(one))
    answers = [call_model(model, inputs, training=False).numpy() for model in (one, two)]
    return np.allclose(*answers, atol=1e-6), [sorted(weights_of(model)) for model in (one, two)]


def split_cpu(devices: int) -> None:
    """Makes several logical devices of the CPU; nothing else of TensorFlow must have run."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * devices
    )


def clipped(
    project: Project, folder: Path, train: dict[str, Any], devices: int = 1
) -> dict[str, Any]:
    """What `losses` gives when every gradient is clipped."""
    from perennial.training import training_step

    training_step.CLIP_NORM = 0.05
    return losses(project, folder, train, devices)


def losses(
    project: Project, folder: Path, train: dict[str, Any], devices: int = 1, count: int = 20
) -> dict[str, Any]:
    """The first losses with these settings, and what the model gives then."""
    import keras

    if devices > 1:
        split_cpu(devices)
    trainer, features = make_trainer(project, folder, train)
    keras.utils.set_random_seed(5)
    found = trainer.train([0.003] * count)
    outputs = trainer.model(features.sample("eval", 8)[0], training=False)
    return {
        "losses": found.losses,
        "norms": found.gradient_norms,
        "replicas": trainer.strategy.num_replicas_in_sync,
        "dtype": outputs.dtype.name,
        "measured": trainer.measure("eval", features),
    }


def make_trainer(
    project: Project, folder: Path, train: dict[str, Any], weights: list[float] | None = None
) -> Any:
    import keras

    from perennial.training.batches import BatchPlan, TrainingBatches
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.strategy import choose_strategy
    from perennial.training.trainer import Trainer

    settings = project.settings.train.model_copy(update=train)
    features = features_of(project, folder)
    keras.utils.set_random_seed(4)
    strategy = choose_strategy(settings)
    trainer = Trainer(
        ModelBuilder(project, features).build, project.tasks, strategy, settings, weights
    )
    trainer.feed(TrainingBatches(features, BatchPlan(32, 9)))
    return trainer, features


def resumed(project: Project, folder: Path) -> tuple[list[float], list[float], str]:
    """Losses of steps 7 to 15: without a break, and by another trainer from step 7 on.

    What a foreign state is told.
    """
    from perennial.errors import TrainingError
    from perennial.training.batches import BatchPlan, TrainingBatches

    first, features = make_trainer(project, folder, {})
    first.train([0.003] * 7)
    state = first.state()
    unbroken = first.train([0.003] * 8).losses
    second, _ = make_trainer(project, folder, {})
    second.restore(state)
    second.feed(TrainingBatches(features, BatchPlan(32, 9)), start=7)
    again = second.train([0.003] * 8).losses
    state = {
        name: array[:3] if name.endswith("dense/kernel") else array for name, array in state.items()
    }
    try:
        second.restore(state)
    except TrainingError as error:
        return unbroken, again, str(error)
    raise AssertionError("a state of another architecture was restored")


def weighted(project: Project, folder: Path) -> tuple[float, float]:
    """The first step's loss, as it is, and with every class but 3 without weight."""
    plain, _ = make_trainer(project, folder, {})
    only, _ = make_trainer(project, folder, {}, [10.0 * (number == 3) for number in range(10)])
    return plain.train([0.003]).losses[0], only.train([0.003]).losses[0]


def fitted(project: Project, folder: Path) -> dict[str, Any]:
    """What happens when weights are written, read and loaded into a model like theirs and into another."""
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.weights import assign_weights, load_weights, save_weights, weights_of

    features = features_of(project, folder)
    model = ModelBuilder(project, features).build()
    file = project.state / "weights.npz"
    save_weights(weights_of(model), file)
    read = load_weights(file)
    fresh = ModelBuilder(project, features).build()
    whole = assign_weights(fresh, read)
    wider = changed(project, "keras.layers.Dense(64", "keras.layers.Dense(65")
    part = assign_weights(ModelBuilder(wider, features).build(), read)
    equal = all(
        np.array_equal(array, weights_of(fresh)[name]) for name, array in weights_of(model).items()
    )
    file.write_bytes(file.read_bytes()[:-200])
    return {
        "whole": str(whole),
        "equal": equal,
        "part": str(part),
        "left": part.left,
        "cut": told(load_weights, file),
    }


def changed(project: Project, old: str, new: str) -> Project:
    """The project with one piece of its model.py replaced."""
    text = project.module_path.read_text()
    assert old in text
    project.module_path.write_text(text.replace(old, new))
    return load_project(project.folder)


def told(function: Callable[..., Any], *arguments: Any) -> str:
    """The message of the error that a call raises."""
    try:
        function(*arguments)
    except Exception as error:
        return str(error)
    return "nothing was raised"


def build_error(project: Project, folder: Path, old: str, new: str) -> str:
    """What a person is told of a changed model.py."""
    from perennial.training.model_builder import ModelBuilder

    builder = ModelBuilder(changed(project, old, new), features_of(project, folder))
    return told(lambda: builder.check(builder.build()))


def latent_of(project: Project, folder: Path, layer: str | None) -> Any:
    """Shape of the latent vector by this layer's name, or what is told."""
    from perennial.training.model_builder import ModelBuilder, trunk

    features = features_of(project, folder)
    model = ModelBuilder(project, features).build()
    try:
        return tuple(trunk(model, layer)(features.sample("train", 3)[0]).shape)
    except Exception as error:
        return str(error)


def with_hyperparameters(
    project: Project, folder: Path
) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """What a model declares on `hp`, and the shapes of its layer's kernel by default and as asked."""
    from perennial.training.model_builder import ModelBuilder

    text = project.module_path.read_text()
    text = text.replace(
        "def build_model(transform_output):", "def build_model(transform_output, hp):"
    )
    project.module_path.write_text(
        text.replace("Dense(64", 'Dense(hp.Int("width", 8, 64, default=32)')
    )
    builder = ModelBuilder(load_project(project.folder), features_of(project, folder))
    models = [builder.build(), builder.build({"width": 12})]
    return builder.declared().values, [
        tuple(model.get_layer("dense").kernel.shape) for model in models
    ]


def device_errors(project: Project) -> dict[str, str]:
    """What is told of devices that are not there."""
    import os

    from perennial.training.strategy import choose_strategy

    train = project.settings.train
    found = {
        name: told(choose_strategy, train.model_copy(update=update))
        for name, update in {
            "gpu": {"device": "gpu"},
            "tpu": {"strategy": "tpu"},
            "named": {"strategy": "tpu", "tpu": "my-tpu"},
            "alone": {"strategy": "multi_worker"},
        }.items()
    }
    os.environ["TF_CONFIG"] = "{worker}"
    return found | {
        "cluster": told(choose_strategy, train.model_copy(update={"strategy": "multi_worker"}))
    }


def unread_feature(project: Project, folder: Path) -> tuple[list[float], list[float]]:
    """The first losses of a model, and of the same one where a feature that it does not read is transformed, too."""
    import dataclasses

    import keras

    from perennial.training.batches import BatchPlan, TrainingBatches
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.strategy import choose_strategy
    from perennial.training.trainer import Trainer
    from perennial.training.transformed_features import TransformedFeatures

    class WithMore(TransformedFeatures):
        def parse(self, examples: Any) -> Any:
            features, labels = super().parse(examples)
            return {"a_feature_before": features["pixels"] * 0.0, **features}, labels

    found = []
    for kind in (TransformedFeatures, WithMore):
        features = kind(
            **{
                f.name: getattr(features_of(project, folder), f.name)
                for f in dataclasses.fields(kind)
            }
        )
        keras.utils.set_random_seed(4)
        settings = project.settings.train
        builder = ModelBuilder(project, features)
        trainer = Trainer(builder.build, project.tasks, choose_strategy(settings), settings)
        builder.check(trainer.model)
        trainer.feed(TrainingBatches(features, BatchPlan(32, 9)))
        found.append(trainer.train([0.003] * 5).losses)
    return found[0], found[1]
