"""Finds initial weights that train stably, before anything is tuned.

Several draws of initial weights are trained briefly while the learning rate warms up; the draw that is
numerically healthy and reaches the lowest loss goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pvariance
from typing import TYPE_CHECKING, Any

from perennial.errors import TrainingError
from perennial.modelling.features import TransformedFeatures, batches
from perennial.modelling.loop import StepResult, Trainer, checked_build, choose_strategy
from perennial.project import Project
from perennial.publishing import publish_text
from perennial.user_module import load_module
from schemas.records import Stabilisation, WeightDraw

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WEIGHTS_FILE = "draw.weights.h5"
RECORD_FILE = "stabilisation.json"

# A draw with more than half of its ReLU units silent has lost half of its capacity before training began.
MOST_DEAD_UNITS = 0.5
# The loss that counts is the mean over this last share of the steps: single batches are noisy.
TAIL = 0.25
_PROBED = 256


def stabilise_weights(project: Project, features: Path, output: Path) -> Stabilisation:
    """Trains `stabilise.draws` draws for `stabilise.steps` steps each; keeps the weights of the best.

    Writes `output/draw.weights.h5` and a record of every draw.

    Raises:
        ProjectError: The model does not build.
        TrainingError: No draw stays finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    settings = project.settings
    transformed = TransformedFeatures(features, settings.label)
    draws: list[WeightDraw] = []
    for number in range(settings.stabilise.draws):
        draw, model = _train_draw(project, transformed, settings.train.seed + number)
        draws.append(draw)
        if choose_draw(draws) == number:
            model.save_weights(output / WEIGHTS_FILE)
    chosen = choose_draw(draws)
    if not draws[chosen].finite:
        where, remedy = (
            "stabilise_weights",
            "Check the features' range in preprocessing_fn, or lower train.learning_rate.",
        )
        raise TrainingError(where, "must find weights with a finite loss", f"none in {len(draws)} draws", remedy)
    record = Stabilisation(draws=draws, chosen=chosen)
    publish_text(record.model_dump_json(indent=2), output / RECORD_FILE)
    return record


def read_stabilisation(folder: Path) -> Stabilisation:
    """The record that `stabilise_weights` left in a folder."""
    return Stabilisation.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))


def choose_draw(draws: Sequence[WeightDraw]) -> int:
    """The index of the draw whose weights go on: finite, then healthy, then of the lowest loss at the end."""

    def unfitness(number: int) -> tuple[bool, bool, float]:
        draw = draws[number]
        return not draw.finite, not _healthy(draw), final_loss(draw.losses)

    return min(range(len(draws)), key=unfitness)


def final_loss(losses: Sequence[float]) -> float:
    """Mean loss over the last quarter of the steps; infinite when there is none or one is not a number."""
    tail = losses[-max(1, round(len(losses) * TAIL)) :]
    mean = fmean(tail) if tail else math.inf
    return mean if math.isfinite(mean) else math.inf


def warm_up(step: int, steps: int, learning_rate: float) -> float:
    """Learning rate at a step (from 0): linear over the first half, then constant.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2 (gradual warm-up).
    """
    return learning_rate * min(1.0, (step + 1) / max(1, steps // 2))


def _healthy(draw: WeightDraw) -> bool:
    return draw.finite and (draw.dead_units or 0.0) <= MOST_DEAD_UNITS


def _train_draw(project: Project, transformed: TransformedFeatures, seed: int) -> tuple[WeightDraw, keras.Model]:
    import keras

    settings = project.settings
    keras.utils.set_random_seed(seed)
    inputs, labels = transformed.split("train")
    probe = {name: values[:_PROBED] for name, values in inputs.items()}
    module, graph = load_module(project.module_path), transformed.transform_output()
    strategy = choose_strategy(settings.train.strategy)
    trainer = Trainer(lambda: checked_build(module, graph, probe, labels), strategy, settings.train.learning_rate)
    results: list[StepResult] = []
    dataset = batches(inputs, labels, settings.train.batch_size, seed).repeat()
    try:
        for step, batch in zip(range(settings.stabilise.steps), trainer.distribute(dataset), strict=False):
            trainer.set_learning_rate(warm_up(step, settings.stabilise.steps, settings.train.learning_rate))
            results.append(trainer.train_step(*batch))
        finite = True
    except TrainingError:
        finite = False
    return _measure_draw(seed, results, finite, dead_units(trainer.model, probe)), trainer.model


def _measure_draw(seed: int, results: Sequence[StepResult], finite: bool, dead: float | None) -> WeightDraw:
    norms = [result.gradient_norm for result in results if math.isfinite(result.gradient_norm)]
    return WeightDraw(
        seed=seed,
        losses=[result.loss for result in results],
        gradient_norm=fmean(norms) if norms else 0.0,
        gradient_variance=pvariance(norms) if norms else 0.0,
        dead_units=dead,
        finite=finite,
    )


def dead_units(model: keras.Model, probe: dict[str, tf.Tensor]) -> float | None:
    """Share of ReLU units that give zero on every probed example; None for a model without inspectable ReLU layers."""
    import keras
    import tensorflow as tf

    layers = [layer for layer in model.layers if _is_relu(layer)]
    if not layers or not isinstance(model, keras.src.models.Functional):
        return None
    outputs = keras.Model(model.input, [layer.output for layer in layers])(probe, training=False)
    silent = [tf.reduce_all(tf.equal(o, 0.0), axis=list(range(len(o.shape) - 1))) for o in tf.nest.flatten(outputs)]
    return float(tf.reduce_mean(tf.cast(tf.concat(silent, axis=0), tf.float32)))


def _is_relu(layer: Any) -> bool:
    return getattr(getattr(layer, "activation", None), "__name__", "") == "relu"
