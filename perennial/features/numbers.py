"""Numbers: missing values, and magnitudes that span orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perennial.features.inputs import NUMBERS, TEXT, checked, on_values

if TYPE_CHECKING:
    import tensorflow as tf

    from perennial.features.inputs import Values


def filled(values: Values, default: float | str) -> tf.Tensor:
    """Gives every example a value.

    Args:
        values: Numbers or text. Sparse [batch, at most 1]: an example without a value gets the
            default. Dense, any shape: NaN and the empty text get the default.
        default: A number for numbers, text for text.

    Returns:
        Dense, of the same dtype: [batch] for a SparseTensor, the same shape for a dense tensor.

    Raises:
        TypeError: The values are of another dtype, or the default is not of the values' kind.
    """
    import tensorflow as tf

    values = checked("filled", "values", values, NUMBERS, TEXT)
    _check_default(values, default)
    filling = tf.constant(default, values.dtype)
    if isinstance(values, tf.SparseTensor):
        single = tf.SparseTensor(values.indices, values.values, [values.dense_shape[0], 1])
        values = tf.squeeze(tf.sparse.to_dense(single, filling), axis=1)
    if values.dtype.is_floating:
        return tf.where(tf.math.is_nan(values), filling, values)
    return tf.where(tf.equal(values, ""), filling, values) if values.dtype == tf.string else values


def log1p_signed(values: Values) -> Values:
    """Computes `sign(x) * log(1 + |x|)`: the logarithm of a magnitude, for numbers of either sign.

    Args:
        values: Numbers, dense of any shape or sparse.

    Returns:
        float32 in the same form. NaN stays NaN, what is missing stays missing.

    Raises:
        TypeError: The values are not numbers.
    """
    import tensorflow as tf

    def work(numbers: tf.Tensor) -> tf.Tensor:
        numbers = tf.cast(numbers, tf.float32)
        return tf.sign(numbers) * tf.math.log1p(tf.abs(numbers))

    return on_values(checked("log1p_signed", "values", values, NUMBERS), work)


def _check_default(values: Any, default: float | str) -> None:
    kind = str if values.dtype.name == "string" else int if values.dtype.is_integer else int | float
    if isinstance(default, bool) or not isinstance(default, kind):
        raise TypeError(
            f"features.filled: default must be of the dtype {values.dtype.name}. Received: "
            f"{default!r}."
        )
