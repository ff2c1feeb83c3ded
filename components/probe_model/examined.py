"""A model and the examples that it is probed on, as arrays; nothing here knows TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from perennial.evaluation.prediction_table import Array
from schemas.project import Metric

Columns = Mapping[str, Array]
"""Raw features by name, each [n, ...]."""


@dataclass(frozen=True)
class Examined:
    """A model and some examples.

    Attributes:
        predict: Columns -> class probabilities, float [n, classes], or values, float [n].
        columns: What the model reads of the examples.
        labels: Classes, int [n], or values, float [n].
        latent: The latent vectors, float [n, d]; None: the model gives none.
        clusters: Which cluster each example belongs to [n]; None: each stands for itself.
    """

    predict: Callable[[Columns], Array]
    columns: Columns
    labels: Array
    latent: Array | None = None
    clusters: Array | None = None

    @cached_property
    def predictions(self) -> Array:
        """What the model says of the examples as they are."""
        return self.predict(self.columns)

    @property
    def loss(self) -> Metric:
        """What the model was trained to lower: the log loss of classes, or the squared error of values."""
        return "log_loss" if self.predictions.ndim > 1 else "mean_squared_error"

    def predict_with(self, changed: Columns) -> Array:
        """What the model says when some columns are others."""
        return self.predict({**self.columns, **changed})

    def permuted(self, features: list[str], order: Array) -> Array:
        """What the model says when these features are taken from other examples, by row numbers [n]."""
        return self.predict_with({name: self.columns[name][order] for name in features})

    def on(self, rows: Array) -> Examined:
        """The same of some examples, by their row numbers."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            labels=self.labels[rows],
            latent=None if self.latent is None else self.latent[rows],
            clusters=None if self.clusters is None else self.clusters[rows],
        )


def is_constant(values: Array) -> bool:
    """Whether all examples have the same value; of vectors, [n, ...], the same vector."""
    return bool(np.all(values == values[:1]))
