"""Checks of the feature functions' arguments, and work on dense and sparse tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import tensorflow as tf

    Values: TypeAlias = tf.Tensor | tf.SparseTensor

INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32")
FLOATS = ("float32", "float64")
NUMBERS = (*INTEGERS, *FLOATS)
TEXT = ("string",)
_NAMES = {INTEGERS: "whole numbers", FLOATS: "fractions", NUMBERS: "numbers", TEXT: "text"}


def checked(
    function: str, argument: str, values: Any, *kinds: tuple[str, ...], dense: bool = False
) -> Any:
    """Checks an argument of a feature function; gives it as a tensor.

    Args:
        function: Name of the function, for the message.
        argument: Name of the argument, for the message.
        values: What was given: a tensor, a SparseTensor, or what TensorFlow makes a tensor of.
        kinds: The dtypes that it may have: some of INTEGERS, FLOATS, NUMBERS and TEXT.
        dense: Whether every example must have its values.

    Raises:
        TypeError: It is no tensor, is of another dtype, or is sparse where it must be dense.
    """
    import tensorflow as tf

    where = f"features.{function}: {argument}"
    expected = " or ".join(_NAMES[kind] for kind in kinds)
    if isinstance(values, tf.RaggedTensor | dict) or (
        dense and isinstance(values, tf.SparseTensor)
    ):
        remedy = (
            "Give it features.filled(x, default)." if isinstance(values, tf.SparseTensor) else ""
        )
        raise TypeError(
            f"{where} must be a dense tensor. Received: {type(values).__name__}. {remedy}".rstrip()
        )
    if not isinstance(values, tf.SparseTensor):
        try:
            values = tf.convert_to_tensor(values)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{where} must be a tensor of {expected}. Received: {values!r}."
            ) from error
    if values.dtype.name not in {name for kind in kinds for name in kind}:
        raise TypeError(f"{where} must be {expected}. Received: a tensor of {values.dtype.name}.")
    return values


def checked_number(function: str, argument: str, value: Any, least: float) -> None:
    """Checks a plain number that is an argument of a feature function.

    Raises:
        ValueError: It is not a number, or is below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise ValueError(
            f"features.{function}: {argument} must be a number of at least {least:g}. Received: "
            f"{value!r}."
        )


def checked_count(function: str, argument: str, value: Any) -> None:
    """Checks a plain number of things.

    Raises:
        ValueError: It is not a whole number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"features.{function}: {argument} must be a whole number above 0. Received: {value!r}."
        )


def on_values(values: Values, work: Callable[[tf.Tensor], tf.Tensor]) -> Values:
    """Applies elementwise work to a tensor, or to the values that a SparseTensor has."""
    import tensorflow as tf

    if isinstance(values, tf.SparseTensor):
        return tf.SparseTensor(values.indices, work(values.values), values.dense_shape)
    return work(values)


def one_per_example(values: tf.Tensor, function: str, argument: str) -> tf.Tensor:
    """Gives a dense tensor [batch] or [batch, 1] as [batch].

    Raises:
        ValueError: It has more than one value for each example.
    """
    import tensorflow as tf

    shape = values.shape
    if shape.rank == 1:
        return values
    if shape.rank != 2 or shape[1] not in (1, None):
        where = f"features.{function}: {argument}"
        raise ValueError(f"{where} must have the shape [batch] or [batch, 1]. Received: {shape}.")
    return tf.squeeze(values, axis=1)
