"""The candidate in memory, asked by columns of raw features: many changed examples, none encoded anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.probe_model.examined import Columns
from perennial.errors import TrainingError
from perennial.evaluation.prediction_table import Array
from perennial.export.contract import read_contract
from perennial.export.gradient_functions import Halves, halves_of
from perennial.export.saved_model import SERVING_SIGNATURE
from perennial.tasks import LATENT, PARTS, Task, output_name
from schemas.records import ServedFeature
from serving.causes import tensorflow_cause

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH = 1024


class Candidate:
    """A SavedModel, of which one task is looked at.

    Args:
        saved_model: Its folder, with the contract that says what it takes and gives.
        task: The task.
    """

    def __init__(self, saved_model: Path, task: Task) -> None:
        import tensorflow as tf

        contract = read_contract(saved_model)
        self.features: dict[str, ServedFeature] = {feature.name: feature for feature in contract.features}
        self.has_latent = contract.latent is not None
        # The last part is what the others follow from: the class is the most probable one.
        self._output = output_name([served.name for served in contract.tasks], task.name, PARTS[task.kind][-1])
        self._loaded = tf.saved_model.load(str(saved_model))

    @property
    def halves(self) -> Halves | None:
        """The model below and above its transformed features; None where they cannot be told apart."""
        return halves_of(self._loaded)

    def columns(self, records: Sequence[bytes]) -> dict[str, Array]:
        """The raw features that the model reads of serialised examples, each [n, ...]; defaults stand where they do."""
        import tensorflow as tf

        specs = {name: _spec(feature) for name, feature in self.features.items()}
        return {name: found.numpy() for name, found in tf.io.parse_example(list(records), specs).items()}

    def predict(self, columns: Columns) -> Array:
        """Class probabilities, float32 [n, classes], or values, float32 [n].

        Raises:
            TrainingError: The model does not take an example.
        """
        return self._ask(columns, self._output)

    def latent(self, columns: Columns) -> Array | None:
        """Latent vectors, float32 [n, d]; None: the model gives none.

        Raises:
            TrainingError: The model does not take an example.
        """
        return self._ask(columns, LATENT) if self.has_latent else None

    def answer(self, outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What `predict` reads of the model's outputs."""
        return outputs[self._output]

    def _ask(self, columns: Columns, output: str) -> Array:
        import tensorflow as tf

        serve: Any = self._loaded.signatures[SERVING_SIGNATURE]
        size = len(next(iter(columns.values())))
        found = []
        try:
            for start in range(0, size, _BATCH):
                rows = {name: tf.constant(values[start : start + _BATCH]) for name, values in columns.items()}
                found.append(serve(**rows)[output].numpy())
        except tf.errors.OpError as error:
            cause, remedy = tensorflow_cause(str(error.message)), "Correct schema.pbtxt or preprocessing_fn."
            raise TrainingError("the candidate", "must take every test example", cause, remedy) from error
        return np.concatenate(found)


def _spec(feature: ServedFeature) -> tf.io.FixedLenFeature:
    import tensorflow as tf

    shape = [-1 if size is None else size for size in feature.shape]
    dtype = object if feature.dtype == "string" else feature.dtype
    default = None if feature.default is None else np.array(feature.default, dtype).reshape(shape)
    return tf.io.FixedLenFeature(feature.shape, tf.as_dtype(feature.dtype), default)
