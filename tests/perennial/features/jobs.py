"""Calls of the feature functions in a warm process."""

from __future__ import annotations

from typing import Any

from perennial import features
from tests.forked import forked


def apply(function: str, *arguments: Any, **named: Any) -> Any:
    """Calls a feature function on lists in a warm process; gives lists.

    A None in a list makes it a SparseTensor.
    """
    return forked(call, function, arguments, named)


def call(function: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return _plain(getattr(features, function)(*map(_tensor, arguments), **named))


def apply_all(calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
    """Several calls in one warm process: results, or messages of the errors that they raise."""
    return forked(call_all, calls)


def call_all(calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
    found: list[Any] = []
    for function, arguments, named in calls:
        try:
            found.append(call(function, arguments, named))
        except (TypeError, ValueError) as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def rfm(
    rows: list[tuple[list[int], list[float], int]], window_days: float | None
) -> dict[str, Any]:
    """The aggregates of ragged lists.

    Once sparse, once dense and filled with times of the row's own.
    """
    import tensorflow as tf

    at = tf.constant([row[2] for row in rows], tf.int64)
    times = tf.ragged.constant([row[0] for row in rows], tf.int64, row_splits_dtype=tf.int64)
    amounts = tf.ragged.constant([row[1] for row in rows], tf.float32, row_splits_dtype=tf.int64)
    width = max(1, max(len(row[0]) for row in rows))
    filled = [row[0] + [row[2]] * (width - len(row[0])) for row in rows]
    worth = [row[1] + [0.0] * (width - len(row[1])) for row in rows]
    dense = (tf.constant(filled, tf.int64), tf.constant(worth, tf.float32))
    function = features.recency_frequency_monetary
    return {
        "sparse": _plain(function(times.to_sparse(), amounts.to_sparse(), at, window_days)),
        "dense": _plain(function(*dense, at[:, tf.newaxis], window_days)),
    }


def _tensor(argument: Any) -> Any:
    import tensorflow as tf

    if not isinstance(argument, list):
        return argument
    if not any(value is None for value in argument):
        return tf.constant(
            argument, tf.int64 if all(type(value) is int for value in argument) else None
        )
    places = [[row, 0] for row, value in enumerate(argument) if value is not None]
    values = _tensor([value for value in argument if value is not None])
    return tf.SparseTensor(tf.constant(places, tf.int64), values, [len(argument), 1])


def _plain(found: Any) -> Any:
    import tensorflow as tf

    if isinstance(found, dict):
        return {name: _plain(value) for name, value in found.items()}
    if isinstance(found, tuple):
        return [_plain(value) for value in found]
    if isinstance(found, tf.SparseTensor):
        values: list[Any] = [None] * int(found.dense_shape[0])
        for (row, _), value in zip(
            found.indices.numpy(), found.values.numpy().tolist(), strict=True
        ):
            values[row] = value
        return values
    return found.numpy().tolist()
