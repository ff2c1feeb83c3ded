"""A model and the examples that it is probed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.prediction_table import GROUP, LABEL, Array, Examples
from perennial.export.served_model import Columns, ServedModel
from schemas.project import Metric
from schemas.records import Evaluation, ModelContract, ServedFeature

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf


@dataclass(frozen=True)
class ProbedModel:
    """A model and some examples, as arrays; nothing here knows TensorFlow.

    Attributes:
        predict: Columns -> class probabilities, float [n, classes], or values, float [n].
        columns: What the model is given of the examples; it need not read all of it.
        labels: Classes, int [n], or values, float [n].
        latent: The latent vectors, float [n, d]; None: the model gives none.
        clusters: The cluster of each example [n]; None: each example stands for itself.
    """

    predict: Callable[[Columns], Array]
    columns: Columns
    labels: Array
    latent: Array | None = None
    clusters: Array | None = None

    @cached_property
    def predictions(self) -> Array:
        """The predictions of the examples as they are."""
        return self.predict(self.columns)

    @property
    def loss(self) -> Metric:
        """Gives what training lowered: the log loss of classes, or the squared error of values."""
        return "log_loss" if self.predictions.ndim > 1 else "mean_squared_error"

    def predict_with(self, changed: Columns) -> Array:
        """Predicts the examples with some columns replaced."""
        return self.predict({**self.columns, **changed})

    def permuted(self, features: list[str], order: Array) -> Array:
        """Predicts the examples with these features taken from others, by row numbers [n]."""
        return self.predict_with({name: self.columns[name][order] for name in features})

    def on(self, rows: Array) -> ProbedModel:
        """Gives the same model on some of the examples, by their row numbers."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            labels=self.labels[rows],
            latent=None if self.latent is None else self.latent[rows],
            clusters=None if self.clusters is None else self.clusters[rows],
        )


@dataclass(frozen=True)
class ProbeData:
    """The candidate and the test split.

    Attributes:
        model: The candidate.
        evaluation: What was measured of it.
        examples: The test split.
        table: The table of the first task with the same rows.
        unread: Names of features that the candidate is given, but that neither its answers to the
            first task nor its latent vectors depend on.
    """

    model: ServedModel
    evaluation: Evaluation
    examples: Examples
    table: pd.DataFrame
    unread: frozenset[str]

    @property
    def task(self) -> str:
        """Name of the task that is probed: the first."""
        return self.evaluation.tasks[0].name

    def records(self, rows: Array) -> list[bytes]:
        """Gives some of the examples, serialised, by their row numbers."""
        return [self.examples.records[row] for row in rows]

    def probed_model(self, rows: Array) -> ProbedModel:
        """Gives the candidate on some of the examples, by their row numbers.

        Raises:
            TrainingError: The model does not take one.
        """
        columns = read_columns(self.model.contract, self.records(rows))
        named = self.examples.named.iloc[rows]
        return ProbedModel(
            lambda changed: self.model.predict_columns(changed)[self.task],
            columns,
            self.table[LABEL].to_numpy()[rows],
            self.model.latent_columns(columns),
            named[GROUP].to_numpy() if GROUP in named else None,
        )


def read_columns(contract: ModelContract, records: Sequence[bytes]) -> dict[str, Array]:
    """Reads the raw features that a model takes from serialised examples, each [n, ...].

    An example that lacks a feature with a default gets the default.
    """
    import tensorflow as tf

    specs = {feature.name: _spec(feature) for feature in contract.features}
    parsed = tf.io.parse_example(list(records), specs)
    return {name: tensor.numpy() for name, tensor in parsed.items()}


def is_constant(values: Array) -> bool:
    """Tells whether all examples have the same value; of vectors, [n, ...], the same vector."""
    return bool(np.all(values == values[:1]))


def _spec(feature: ServedFeature) -> tf.io.FixedLenFeature:
    import tensorflow as tf

    shape = [-1 if size is None else size for size in feature.shape]
    dtype = object if feature.dtype == "string" else feature.dtype
    default = None if feature.default is None else np.array(feature.default, dtype).reshape(shape)
    return tf.io.FixedLenFeature(feature.shape, tf.as_dtype(feature.dtype), default)
