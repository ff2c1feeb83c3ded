"""An entity's past: recency, frequency and monetary value of what it did before a point in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perennial.features.inputs import (
    INTEGERS,
    NUMBERS,
    checked,
    checked_count,
    checked_number,
    one_per_example,
)

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf

    from perennial.features.inputs import Values

_DAY = 24 * 3600
PAST_TIMES, PAST_AMOUNTS = "past_times", "past_amounts"


def recency_frequency_monetary(
    times: Values,
    amounts: Values,
    at: tf.Tensor,
    window_days: float | None = None,
    never_days: float = 3650.0,
) -> dict[str, tf.Tensor]:
    """Tells how long ago, how often and for how much an entity bought, travelled or called.

    Only events before `at` count, whatever the lists hold, so that nothing from the example's own
    time or later leaks into its features.

    Args:
        times: Whole epoch seconds of the entity's events in any order, [batch, n] dense or sparse.
        amounts: The number that belongs to each event, in the same order and form; NaN: of an
            unknown amount.
        at: The example's own time in whole epoch seconds, dense [batch] or [batch, 1].
        window_days: How many days before `at` count; none: all.
        never_days: Recency of an entity without a past.

    Returns:
        `recency_days` (days since the newest event), `frequency` (number of events), `monetary_sum`
        and `monetary_mean` (of the known amounts, 0 without one), each float32 [batch].

    Raises:
        TypeError: The times or `at` are not whole numbers, the amounts no numbers, or `at` is
            sparse.
        ValueError: A shape or a number does not fit.
    """
    import tensorflow as tf

    name = "recency_frequency_monetary"
    now = tf.cast(checked(name, "at", at, INTEGERS, dense=True), tf.int64)
    now = one_per_example(now, name, "at")[:, tf.newaxis]
    # What a sparse list lacks is filled with a time that does not count.
    when = _lists(checked(name, "times", times, INTEGERS), tf.int64, tf.int64.max, "times")
    worth = _lists(checked(name, "amounts", amounts, NUMBERS), tf.float64, float("nan"), "amounts")
    counts = when < now
    if window_days is not None:
        checked_number(name, "window_days", window_days, 0)
        counts &= when >= now - round(window_days * _DAY)
    checked_number(name, "never_days", never_days, float("-inf"))
    return _aggregate(now, when, worth, counts, never_days)


def _aggregate(
    now: tf.Tensor, when: tf.Tensor, worth: tf.Tensor, counts: tf.Tensor, never_days: float
) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    newest = tf.reduce_max(tf.where(counts, when, tf.int64.min), axis=1)
    frequency = tf.reduce_sum(tf.cast(counts, tf.float32), axis=1)
    # The difference of whole seconds first: float32 cannot hold epoch seconds.
    since = tf.where(frequency > 0, now[:, 0] - newest, tf.zeros_like(newest))
    days = tf.cast(tf.cast(since, tf.float64) / _DAY, tf.float32)
    known = counts & tf.math.is_finite(worth)
    total = tf.reduce_sum(tf.where(known, worth, tf.zeros_like(worth)), axis=1)
    number = tf.reduce_sum(tf.cast(known, tf.float64), axis=1)
    return {
        "recency_days": tf.where(frequency > 0, days, tf.fill(tf.shape(days), never_days)),
        "frequency": frequency,
        "monetary_sum": tf.cast(total, tf.float32),
        "monetary_mean": tf.cast(tf.math.divide_no_nan(total, number), tf.float32),
    }


def _lists(values: Values, dtype: tf.DType, filling: float, argument: str) -> tf.Tensor:
    import tensorflow as tf

    if isinstance(values, tf.SparseTensor):
        cast = tf.SparseTensor(values.indices, tf.cast(values.values, dtype), values.dense_shape)
        values = tf.sparse.to_dense(cast, tf.constant(filling, dtype))
    if values.shape.rank != 2:
        where = f"features.recency_frequency_monetary: {argument}"
        raise ValueError(f"{where} must have the shape [batch, n]. Received: {values.shape}.")
    return tf.cast(values, dtype)


def entity_history(
    frame: pd.DataFrame,
    entity: str,
    at: str,
    amount: str,
    limit: int,
    events: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Adds each row's past: the newest events of its entity strictly before the row's own time.

    For landing data; `recency_frequency_monetary` reads the two columns. They always have `limit`
    values, so that clients can send them as features of a fixed shape: the rest is filled with the
    row's own time, at which nothing counts, and the amount 0.

    Args:
        frame: Rows to be landed.
        entity: Column of the entity, such as a customer.
        at: Column of the time: epoch seconds, or pandas' datetime (UTC where it has no zone).
        amount: Column of the number that belongs to an event.
        limit: How many events are kept of each row's past.
        events: Rows that hold the past, with the same three columns; none: `frame` itself.

    Returns:
        A copy of the frame with `past_times` (lists of int) and `past_amounts` (lists of float),
        oldest first. A row without an entity has no past, an event without an amount has NaN.

    Raises:
        TypeError: A column has no times or no numbers.
        ValueError: A column or a row's time is missing, or no event is to be kept.
    """
    checked_count("entity_history", "limit", limit)
    past = _columns(
        frame if events is None else events,
        entity,
        at,
        amount,
        "frame" if events is None else "events",
    )
    rows = _columns(frame, entity, at, amount, "frame")
    # The amount decides between events of one time, so that the order of the rows never does.
    ordered = past.sort_values(["at", "amount"], kind="stable")
    pasts = {
        name: (group["at"].to_numpy(), group["amount"].to_numpy())
        for name, group in ordered.groupby("entity")
    }
    lists = [
        _past(pasts.get(name), time, limit)
        for name, time in zip(rows["entity"], rows["at"], strict=True)
    ]
    result = frame.copy()
    result[PAST_TIMES] = [times for times, _ in lists]
    result[PAST_AMOUNTS] = [amounts for _, amounts in lists]
    return result


def _past(events: tuple[Any, Any] | None, time: int, limit: int) -> tuple[list[int], list[float]]:
    import numpy as np

    times: list[int] = []
    amounts: list[float] = []
    if events is not None:
        end = int(np.searchsorted(events[0], time, side="left"))
        times, amounts = (
            events[0][max(0, end - limit) : end].tolist(),
            events[1][max(0, end - limit) : end].tolist(),
        )
    missing = limit - len(times)
    return times + [int(time)] * missing, amounts + [0.0] * missing


def _columns(frame: pd.DataFrame, entity: str, at: str, amount: str, argument: str) -> pd.DataFrame:
    import pandas as pd

    missing = [name for name in (entity, at, amount) if name not in frame.columns]
    if missing:
        have = ", ".join(map(str, frame.columns))
        raise ValueError(
            f"features.entity_history: {argument} must have the column `{missing[0]}`. Received: "
            f"{have}."
        )
    if not pd.api.types.is_numeric_dtype(frame[amount]):
        where = f"features.entity_history: {argument}[{amount!r}]"
        raise TypeError(f"{where} must hold numbers. Received: {frame[amount].dtype}.")
    times = _seconds(frame[at], f"features.entity_history: {argument}[{at!r}]")
    amounts = frame[amount].to_numpy("float64", na_value=float("nan"))
    return pd.DataFrame({"entity": frame[entity].to_numpy(), "at": times, "amount": amounts})


def _seconds(column: pd.Series, where: str) -> Any:
    import pandas as pd

    if column.isna().any():
        raise ValueError(
            f"{where} must be set in every row. Received: {int(column.isna().sum())} rows without."
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        in_utc = (
            column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        )
        return in_utc.to_numpy("datetime64[s]").astype("int64")
    if not pd.api.types.is_integer_dtype(column):
        raise TypeError(
            f"{where} must hold whole epoch seconds or datetimes. Received: {column.dtype}."
        )
    return column.to_numpy("int64")
