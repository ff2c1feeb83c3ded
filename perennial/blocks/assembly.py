"""Stem, learner and tasks as one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perennial.blocks.arguments import checked_names
from perennial.blocks.tasks import Head
from perennial.tasks import LATENT

if TYPE_CHECKING:
    import keras

    from perennial.blocks.stems import Joined, Stem

TASKS = "task"
"""Name of the layer that holds the tasks."""


def assemble(
    stem: Stem | Joined, learner: Callable[[Any], Any], tasks: Head | Sequence[Head]
) -> keras.Model:
    """Builds a model of a stem, a learner and one or more tasks over it.

    Args:
        stem: What reads the features: `table_stem`, `table_tokens`, `image_stem`, `text_stem` or
            `joined`.
        learner: `mlp`, `residual_groups`, `transformer_encoder`, or a Keras layer of your own that
            gives [batch, d].
        tasks: The heads, with the names of `model.tasks` in project.yaml.

    Returns:
        A model that takes {feature: tensor}; features that no stem reads are ignored. It gives
        {task: tensor} and `latent`: the learner's output, float32 [batch, d]. Every output is
        float32 under mixed precision too.

    Raises:
        ValueError: The learner does not fit the stem, or two names are equal.
    """
    inputs = stem.inputs()
    return with_tasks(inputs, learner(stem(inputs)), tasks)


def with_tasks(inputs: Mapping[str, Any], latent: Any, tasks: Head | Sequence[Head]) -> keras.Model:
    """Puts tasks over a latent vector that layers of your own made.

    Args:
        inputs: keras.Input by feature.
        latent: The Keras tensor [batch, d] that the tasks read.
        tasks: As for `assemble`.

    Returns:
        As for `assemble`.

    Raises:
        ValueError: The latent tensor is no vector, or two names are equal.
    """
    import keras

    from perennial.blocks.layers import Tasks

    heads = [tasks] if isinstance(tasks, Head) else list(tasks)
    checked_names(
        "assemble", "names of tasks and `latent`", [LATENT, *(head.name for head in heads)]
    )
    if not heads:
        raise ValueError("blocks.assemble: tasks must be one or more. Received: none.")
    shape = ["batch", *getattr(latent, "shape", ())[1:]]
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f"blocks.assemble: the learner must give a vector [batch, d]. Received: {shape}."
        )
    vector = keras.layers.Identity(dtype="float32", name=LATENT)(latent)
    outputs = Tasks(heads, TASKS)(vector)
    # As a list, for which Keras picks features by name. A dictionary it would match by order, so
    # that a feature that no stem reads would shift the others.
    return keras.Model(list(inputs.values()), {**outputs, LATENT: vector})
