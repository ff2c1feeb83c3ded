"""The test split re-weighted to what serving sees, by the log of served requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluate_model.covariate_shift import estimate_ratio
from components.evaluate_model.label_shift import (
    ClassShares,
    count_pairs,
    estimate_shares,
    solve_shares,
)
from perennial.data.examples import to_example
from perennial.data.serving_log import ServingLog, find_log, no_requests, reading_log
from perennial.errors import NotComparedError, PerennialError
from perennial.evaluation.bootstrap import effective_number
from perennial.evaluation.prediction_table import Array, Examples, read_values
from perennial.export.contract import parsing_specs
from perennial.export.served_model import ServedModel
from perennial.project import Project
from perennial.readers.convert import Conformed
from perennial.schema.environments import serving_features
from perennial.tasks import Task
from schemas.records import ServingDistribution

if TYPE_CHECKING:
    import tensorflow as tf

MOST_REQUESTS = 5_000
"""So many requests are drawn from the newest: the share of a class is then known to within 1.4
points."""

Resample = Callable[[np.random.Generator, Array], Array]
"""Weights of resampled test examples (row numbers, which may repeat, [m]), estimated anew from
them; NaN: they cannot be. The requests are resampled, too."""


@dataclass(frozen=True)
class ServingWeights:
    """Weights of the test examples in serving.

    Attributes:
        record: How that was estimated.
        weights: float64 [n], with mean 1.
        resample: Estimates the weights anew; None: they are taken as they are.
        notes: What a person should know, such as features that were not used.
    """

    record: ServingDistribution
    weights: Array
    resample: Resample | None = None
    notes: tuple[str, ...] = ()


def estimate_weights(
    project: Project,
    task: Task,
    model: ServedModel,
    examples: Examples,
    labels: Array,
    predictions: Array,
) -> ServingWeights:
    """Estimates the weights by `evaluate.serving`.

    Args:
        project: Its settings name the method and the log.
        task: The task that is re-weighted.
        model: The candidate, which predicts the requests.
        examples: The test split.
        labels: Their labels, int [n] or float [n].
        predictions: What the candidate gives for them: float [n, classes], or [n].

    Raises:
        NotComparedError: There is no log, or it does not tell the weights.
    """
    try:
        weights = _estimate_weights(project, task, model, examples, labels, predictions)
        _check_effective(weights, project.settings.evaluate.least_effective)
    except NotComparedError as reason:
        raise NotComparedError(f"metrics were not re-weighted to serving: {reason}") from reason
    return weights


def _estimate_weights(
    project: Project,
    task: Task,
    model: ServedModel,
    examples: Examples,
    labels: Array,
    predictions: Array,
) -> ServingWeights:
    method = project.settings.evaluate.serving
    if method == "none":
        raise NotComparedError("project.yaml sets evaluate.serving: none")
    if method == "label_shift" and not task.is_classes:
        raise NotComparedError(
            f"label_shift is of classes, and `{task.name}` is a regression; set covariate_shift"
        )
    log = find_log(project)
    with reading_log():
        requests = log.sample(MOST_REQUESTS)
    if not requests:
        raise no_requests(project)
    if method == "covariate_shift":
        return _by_covariates(project, log, examples, requests)
    return _by_labels(project, task, model, requests, labels, predictions)


def _check_effective(weights: ServingWeights, least: float) -> None:
    effective = weights.record.effective
    if effective < least:
        raise NotComparedError(
            f"the effective number of test examples would be {effective:.1f} of "
            f"{len(weights.weights):,}, below "
            f"evaluate.least_effective ({least:g}); serving sees what the test split hardly holds"
        )


def _by_covariates(
    project: Project, log: ServingLog, examples: Examples, requests: Sequence[Conformed]
) -> ServingWeights:
    known = {
        project.settings.label,
        project.settings.data.key,
        *(task.label for task in project.tasks),
    }
    names = [name for name in log.columns if name not in known]
    requested = {name: [_as_list(row.get(name)) for row in requests] for name in names}
    ratio = estimate_ratio(read_values(examples.records, names), requested)
    record = ServingDistribution(
        method="covariate_shift", requests=len(requests), effective=effective_number(ratio.weights)
    )
    notes = tuple(
        f"covariate shift of `{name}` was not looked at: {why}"
        for name, why in ratio.unused.items()
    )
    return ServingWeights(record, ratio.weights, notes=notes)


def _by_labels(
    project: Project,
    task: Task,
    model: ServedModel,
    requests: Sequence[Conformed],
    labels: Array,
    predictions: Array,
) -> ServingWeights:
    needed = parsing_specs(project.schema, serving_features(project.schema))
    usable = [
        row for row in requests if all(_fits(row.get(name), spec) for name, spec in needed.items())
    ]
    if not usable:
        raise NotComparedError("no served request has all features that the model needs")
    records = [to_example(row).SerializeToString(deterministic=True) for row in usable]
    try:
        scores = model.predict_examples(records)[task.name]
    except PerennialError as error:
        raise NotComparedError(f"the served requests could not be predicted: {error}") from error
    scores = scores[np.isfinite(scores).all(axis=1)]
    weights = weigh_by_labels(labels, predictions.argmax(axis=1), scores.argmax(axis=1))
    left_out = len(requests) - len(scores)
    if not left_out:
        return weights
    note = (
        f"{left_out:,} of {len(requests):,} served requests were left out: the model has no "
        "answer to them"
    )
    return ServingWeights(weights.record, weights.weights, weights.resample, (note,))


def weigh_by_labels(labels: Array, predicted: Array, requested: Array) -> ServingWeights:
    """Estimates the weights by label shift.

    Args:
        labels: True classes of the test examples, int [n].
        predicted: Their predicted classes, int [n].
        requested: Predicted classes of the served requests, int [requests].

    Raises:
        NotComparedError: The classes' shares in serving cannot be estimated.
    """
    shares = estimate_shares(labels, predicted, requested)
    classes = len(shares.served)
    asked = np.bincount(requested, minlength=classes) / len(requested)

    def resample(random: np.random.Generator, rows: Array) -> Array:
        counts = count_pairs(labels[rows], predicted[rows], classes)
        try:
            again = solve_shares(counts, random.multinomial(len(requested), asked))
        except RuntimeError:  # the solver gave up on this one draw
            return np.full(len(rows), np.nan)
        return _normalised(again.weights[labels[rows]])

    weights = _normalised(shares.weights[labels])
    return ServingWeights(_record(shares, len(requested), weights), weights, resample)


def _record(shares: ClassShares, requests: int, weights: Array) -> ServingDistribution:
    held = np.flatnonzero((shares.tested > 0) | (shares.served > 0)).tolist()
    return ServingDistribution(
        method="label_shift",
        requests=requests,
        effective=effective_number(weights),
        served={str(place): float(shares.served[place]) for place in held},
        tested={str(place): float(shares.tested[place]) for place in held},
    )


def _normalised(weights: Array) -> Array:
    """Weights with mean 1; NaN where none is above 0."""
    mean = weights.mean()
    return np.asarray(
        weights / mean if mean > 0 else np.full(len(weights), np.nan), dtype=np.float64
    )


def _fits(value: Any, spec: tf.io.FixedLenFeature) -> bool:
    """Tells whether the model can read a request's value: its shape fits, or a default stands."""
    values = _as_list(value)
    if values is None:
        return spec.default_value is not None
    return len(values) == int(np.prod(spec.shape, dtype=int))


def _as_list(value: Any) -> list[Any] | None:
    return value if value is None or isinstance(value, list) else [value]
