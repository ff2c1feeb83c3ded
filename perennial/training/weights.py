"""Weights by their Keras path, in files that hold nothing but numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np

Weights = dict[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class AssignedWeights:
    """Paths of a model's weights that were assigned, and of those that were not, each with why."""

    assigned: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Tells whether every weight was assigned."""
        return not self.left

    def __str__(self) -> str:
        return f"{len(self.assigned)} of {len(self.assigned) + len(self.left)} weights"


def weights_of(model: keras.Model) -> Weights:
    """Gives all weights of a model by path, as arrays.

    The random states of its layers are no weights.
    """
    return {name: variable.numpy() for name, variable in _named(model)}


def assign_weights(model: keras.Model, weights: Mapping[str, Any]) -> AssignedWeights:
    """Assigns each weight whose path and shape are those of the model."""
    result = AssignedWeights()
    for name, variable in _named(model):
        array = weights.get(name)
        shape = tuple(variable.shape)
        if array is None:
            result.left[name] = "not there"
        elif tuple(array.shape) != shape:
            result.left[name] = f"{list(array.shape)} there and {list(shape)} here"
        else:
            variable.assign(array)
            result.assigned.append(name)
    return result


def save_weights(weights: Mapping[str, Any], file: Path) -> None:
    """Writes arrays by name to an `.npz` file, which appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write_weights(weights, temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_weights(weights: Mapping[str, Any], file: Path) -> None:
    """Writes arrays by name into a file, as `.npz`, and flushes it to the disk."""
    import numpy as np

    with file.open("wb") as stream:
        np.savez(stream, **weights)
        stream.flush()
        os.fsync(stream.fileno())


def load_weights(file: Path) -> Weights:
    """Reads what `save_weights` wrote; nothing is unpickled.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file.
    """
    import zipfile

    import numpy as np

    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(f"{file.name} is damaged: {error}") from error


def _named(model: keras.Model) -> list[tuple[str, Any]]:
    """Gives each weight with its path; equal paths are numbered in their order."""
    seen: dict[str, int] = {}
    named = []
    for variable in model.weights:
        count = seen[variable.path] = seen.get(variable.path, 0) + 1
        named.append((variable.path if count == 1 else f"{variable.path}#{count}", variable))
    return named
