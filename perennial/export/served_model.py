"""A SavedModel with its contract: verified, loaded and called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ServingError, TrainingError, describe_error
from perennial.export.contract import read_contract
from perennial.export.gradient_functions import Halves, halves_of
from perennial.export.saved_model import EXAMPLES_SIGNATURE, LABELS_SIGNATURE, SERVING_SIGNATURE
from perennial.registry.model_files import check_model_files, verify_model
from perennial.tasks import LATENT, PARTS, output_name
from perennial.tfx_compat import prepare_process
from schemas.records import ModelContract, ServedTask

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH = 1024
_REMEDY = "Train another version with `perennial run`."
# Lines that say where in the graph an operation failed, before the line that says why.
_PLACES = ("Graph execution error", "Detected at node", "<stack traces", "File ", "[[")
_LONGEST_CAUSE = 200

Array = np.ndarray[Any, np.dtype[Any]]
Columns = Mapping[str, Array]
"""Raw features by name, each [n, ...]; text as bytes."""


@dataclass(frozen=True)
class ServedModel:
    """A model in memory that answers. Calls may come from several threads at once.

    Attributes:
        name: What messages call it.
        contract: What it takes and gives.
        signatures: Its functions by name; `export_model` says what each takes and gives.
        owner: The loaded SavedModel. Its functions hold their variables only as long as it lives.
    """

    name: str
    contract: ModelContract
    signatures: Mapping[str, Any] = field(repr=False)
    owner: Any = field(repr=False)

    @classmethod
    def load(cls, folder: Path, digest: str | None = None, name: str | None = None) -> ServedModel:
        """Checks a SavedModel's files and loads it.

        Args:
            folder: The SavedModel.
            digest: What its files must have; None: they are not compared.
            name: What messages call it; None: by its folder.

        Raises:
            IntegrityError: It has another digest, or holds more than a SavedModel and weights.
            ServingError: It cannot be loaded, or has no contract.
        """
        if digest is None:
            check_model_files(folder)
        else:
            verify_model(folder, digest)
        prepare_process()
        import tensorflow as tf

        name = name or f"model in {folder}"
        try:
            contract = read_contract(folder)
        except ServingError as error:
            raise ServingError(name, error.expected, error.received, error.remedy) from None
        try:
            owner = tf.saved_model.load(str(folder))
        except Exception as error:  # whatever TensorFlow raises, these files cannot be served
            expected = "must be a SavedModel that this TensorFlow loads"
            raise ServingError(name, expected, describe_error(error), _REMEDY) from error
        return cls(name, contract, dict(owner.signatures), owner)

    @property
    def tasks(self) -> dict[str, ServedTask]:
        """The tasks that it predicts, by name."""
        return {task.name: task for task in self.contract.tasks}

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The output of each task that its others follow from: `probabilities`, or `value`."""
        tasks = self.tasks
        return {
            name: output_name(list(tasks), name, PARTS[task.kind][-1])
            for name, task in tasks.items()
        }

    @property
    def halves(self) -> Halves | None:
        """The model below and above its transformed features.

        None: no gradient reaches those, as in a model of `run_fn`.
        """
        return halves_of(self.owner)

    def signature(self, name: str) -> Any:
        """Gives one of the SavedModel's functions, which lives as long as this model.

        Raises:
            ServingError: The model has no such function.
        """
        function = self.signatures.get(name)
        if function is None:
            names = ", ".join(self.signatures) or "none"
            raise ServingError(self.name, f"must have the signature {name}", names, _REMEDY)
        return function

    def predict_examples(self, records: Sequence[bytes] | Array) -> dict[str, Array]:
        """Predicts serialised tf.Examples, in batches.

        Args:
            records: At least one example, [n].

        Returns:
            By task: class probabilities, float32 [n, classes] (two of a binary task), or values,
            float32 [n].

        Raises:
            TrainingError: The model does not take an example.
            ServingError: It has no function for examples.
        """
        return self._by_task(self._call(EXAMPLES_SIGNATURE, {"examples": records}))

    def label_examples(self, records: Sequence[bytes] | Array) -> dict[str, Array]:
        """Reads the labels of serialised tf.Examples as the model learned them, in batches.

        Args:
            records: At least one labelled example, [n].

        Returns:
            By task: classes, int64 [n], or values, float32 [n].

        Raises:
            TrainingError: The model does not take an example.
            ServingError: It has no function for labels.
        """
        labels = self._call(LABELS_SIGNATURE, {"examples": records})
        return {name: values.reshape(-1) for name, values in labels.items()}

    def predict_columns(self, columns: Columns) -> dict[str, Array]:
        """Predicts examples that are given by their raw features, in batches.

        Args:
            columns: Every feature of the contract, each [n, ...].

        Returns:
            What `predict_examples` gives.

        Raises:
            TrainingError: The model does not take an example.
            ServingError: It has no function for raw features.
        """
        return self._by_task(self._call(SERVING_SIGNATURE, self._by_argument(columns)))

    def latent_columns(self, columns: Columns) -> Array | None:
        """Computes the latent vectors of examples that are given by their raw features.

        Returns:
            float32 [n, d]; None where the model gives none.

        Raises:
            TrainingError: The model does not take an example.
            ServingError: It has no function for raw features.
        """
        if self.contract.latent is None:
            return None
        return self._call(SERVING_SIGNATURE, self._by_argument(columns))[LATENT]

    def serve(self, columns: Columns) -> dict[str, tf.Tensor]:
        """Calls the model once on examples that are given by their raw features.

        Args:
            columns: Every feature of the contract, each [n, ...].

        Returns:
            Every output of the signature `serving_default`, by name.

        Raises:
            ServingError: It has no function for raw features.
        """
        import tensorflow as tf

        inputs = self._by_argument(columns)
        answer: dict[str, tf.Tensor] = self.signature(SERVING_SIGNATURE)(
            **{argument: tf.constant(values) for argument, values in inputs.items()}
        )
        return answer

    def inputs(self) -> dict[str, tf.TensorSpec]:
        """Gives what the signature `serving_default` takes, by the names of the features.

        An argument that is no feature of the contract has its own name.

        Raises:
            ServingError: It has no function for raw features.
        """
        names = {argument: name for name, argument in self.arguments.items()}
        specs = self.signature(SERVING_SIGNATURE).structured_input_signature[1]
        return {names.get(argument, argument): spec for argument, spec in specs.items()}

    @cached_property
    def arguments(self) -> dict[str, str]:
        """Gives the name of each feature's argument in the signature `serving_default`."""
        return {
            feature.name: feature.argument or feature.name for feature in self.contract.features
        }

    def _by_argument(self, columns: Columns) -> dict[str, Array]:
        return {self.arguments.get(name, name): values for name, values in columns.items()}

    def _by_task(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        return {name: answers[output] for name, output in self.outputs.items()}

    def _call(self, name: str, inputs: Mapping[str, Sequence[bytes] | Array]) -> dict[str, Array]:
        import tensorflow as tf

        function = self.signature(name)
        size = len(next(iter(inputs.values())))
        answers: list[dict[str, Array]] = []
        try:
            for start in range(0, size, _BATCH):
                rows = slice(start, start + _BATCH)
                tensors = {key: tf.constant(values[rows]) for key, values in inputs.items()}
                answer = function(**tensors)
                answers.append({key: tensor.numpy() for key, tensor in answer.items()})
        except tf.errors.OpError as error:
            cause = tensorflow_cause(str(error.message))
            remedy = "Correct schema.pbtxt or preprocessing_fn."
            raise TrainingError(self.name, "must take every example", cause, remedy) from error
        return {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}


def tensorflow_cause(message: str) -> str:
    """Gives the line of a TensorFlow error's message that says what was wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line for line in lines if not line.startswith(_PLACES)]
    return (causes or lines or ["no reason"])[0][:_LONGEST_CAUSE]
