"""An entity's past.

As a plain loop computes it, and never anything from the row's own time or later.
"""

from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.features import entity_history
from tests.forked import forked
from tests.perennial.features.jobs import apply_all, rfm

DAY = 86_400
NOW = 1_767_225_600


def _reference(times, amounts, at, window_days):
    start = -math.inf if window_days is None else at - window_days * DAY
    past = [
        (time, amount) for time, amount in zip(times, amounts, strict=True) if start <= time < at
    ]
    known = [amount for _, amount in past if not math.isnan(amount)]
    return {
        "recency_days": (at - max(time for time, _ in past)) / DAY if past else 3650.0,
        "frequency": float(len(past)),
        "monetary_sum": sum(known),
        "monetary_mean": sum(known) / len(known) if known else 0.0,
    }


def _rows(count):
    """Unordered events around `at`: before, exactly at, after, twice at once, none.

    Some of unknown amount.
    """
    draw, rows = random.Random(11), [([], [], NOW), ([NOW], [5.0], NOW), ([NOW - 1], [5.0], NOW)]
    for _ in range(count):
        at = NOW + draw.randrange(-10 * DAY, 10 * DAY)
        times = [
            at + draw.choice([0, -1, 1, -7 * DAY, draw.randrange(-40 * DAY, 5 * DAY)])
            for _ in range(draw.randrange(8))
        ]
        rows.append((times, [draw.choice([1.5, 20.0, -3.0, math.nan]) for _ in times], at))
    return rows


@pytest.mark.parametrize("window_days", [None, 7, 0.5])
def test_aggregates_are_those_of_a_plain_loop(window_days):
    rows = _rows(500)
    expected = [_reference(*row, window_days) for row in rows]
    for form, found in forked(rfm, rows, window_days).items():
        for name in expected[0]:
            np.testing.assert_allclose(
                found[name], [row[name] for row in expected], rtol=1e-5, atol=1e-6, err_msg=form
            )


def test_what_happens_at_or_after_the_time_changes_nothing():
    draw, rows = random.Random(12), _rows(100)
    later = []
    for times, amounts, at in rows:
        extra = [at + draw.choice([0, 1, DAY]) for _ in range(draw.randrange(1, 4))]
        mixed = [*zip(times, amounts, strict=True), *((time, 1e6) for time in extra)]
        draw.shuffle(mixed)
        later.append(([time for time, _ in mixed], [amount for _, amount in mixed], at))
    plain, changed = forked(rfm, rows, None)["sparse"], forked(rfm, later, None)["sparse"]
    for name, values in plain.items():
        np.testing.assert_allclose(changed[name], values, rtol=1e-6, err_msg=name)


def test_messages_name_the_function_and_the_argument():
    name, calls = "recency_frequency_monetary", []
    calls.append((name, ([[0.5]], [[1.0]], [3]), {}))
    calls.append((name, ([[1]], [["a"]], [3]), {}))
    calls.append((name, ([[1]], [[1.0]], [3, None]), {}))
    calls.append((name, ([1], [1.0], [3]), {}))
    calls.append((name, ([[1]], [[1.0]], [3]), {"window_days": -1}))
    assert apply_all(calls) == [
        f"TypeError: features.{name}: times must be whole numbers. Received: a tensor of float32.",
        f"TypeError: features.{name}: amounts must be numbers. Received: a tensor of string.",
        f"TypeError: features.{name}: at must be a dense tensor. Received: SparseTensor. "
        "Give it features.filled(x, default).",
        f"ValueError: features.{name}: times must have the shape [batch, n]. Received: (1,).",
        f"ValueError: features.{name}: window_days must be a number of at least 0. Received: -1.",
    ]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(0, 12), st.sampled_from([1.0, 2.0, 3.0, math.nan])
    ),
    max_size=25,
)


def _frame(events):
    frame = pd.DataFrame(events, columns=["who", "at", "amount"])
    return frame.astype({"at": "int64", "amount": "float64"})


def _histories(frame, limit, **named):
    found = entity_history(frame, "who", "at", "amount", limit, **named)
    return [repr(item) for item in zip(found["past_times"], found["past_amounts"], strict=True)]


@given(EVENTS, st.integers(1, 4))
def test_history_is_the_newest_events_strictly_before(events, limit):
    for (who, at, _), row in zip(events, _histories(_frame(events), limit), strict=True):
        past = sorted(
            ((time, amount) for name, time, amount in events if name == who and time < at),
            key=lambda event: (event[0], math.isnan(event[1]), event[1]),
        )[-limit:]
        fill = limit - len(past)
        times, amounts = (
            [time for time, _ in past] + [at] * fill,
            [amount for _, amount in past] + [0.0] * fill,
        )
        assert row == repr((times, amounts))


@given(EVENTS, EVENTS, st.randoms(use_true_random=False))
def test_later_events_and_the_order_of_rows_never_change_an_earlier_row(events, others, draw):
    latest = max((at for _, at, _ in events), default=0)
    later = [
        (who, at + latest, amount) for who, at, amount in others
    ]  # at the latest time itself, or after
    order = list(range(len(events) + len(later)))
    draw.shuffle(order)
    mixed = _histories(_frame([[*events, *later][place] for place in order]), 3)
    back = {place: history for place, history in zip(order, mixed, strict=True)}
    assert [back[place] for place in range(len(events))] == _histories(_frame(events), 3)


def test_history_from_a_table_of_events():
    rows, past = (
        _frame([("a", 5, 9.0), ("b", 5, 9.0), (None, 5, 9.0)]),
        _frame([("a", 4, 1.0), ("a", 5, 2.0)]),
    )
    found = entity_history(rows, "who", "at", "amount", 2, events=past)
    assert found["past_times"].tolist() == [[4, 5], [5, 5], [5, 5]]
    assert found["past_amounts"].tolist() == [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert "past_times" not in rows


def test_datetimes_are_epoch_seconds():
    frame = pd.DataFrame(
        {"who": ["a", "a"], "at": pd.to_datetime(["1970-01-01", "1970-01-02"]), "amount": [1, 2]}
    )
    assert entity_history(frame, "who", "at", "amount", 1)["past_times"].tolist() == [[0], [0]]
    zoned = frame.assign(at=frame["at"].dt.tz_localize("Etc/GMT-1"))
    assert entity_history(zoned, "who", "at", "amount", 1)["past_times"].tolist() == [
        [-3600],
        [-3600],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"at": ["x", "y"]},
            "frame['at'] must hold whole epoch seconds or datetimes. Received: object.",
        ),
        ({"at": [1.0, np.nan]}, "frame['at'] must be set in every row. Received: 1 rows without."),
        ({"amount": ["x", "y"]}, "frame['amount'] must hold numbers. Received: object."),
    ],
)
def test_wrong_columns_are_named(change, message):
    frame = _frame([("a", 1, 1.0), ("a", 2, 1.0)]).assign(**change)
    with pytest.raises((TypeError, ValueError)) as error:
        entity_history(frame, "who", "at", "amount", 2)
    assert str(error.value) == f"features.entity_history: {message}"


def test_missing_column_is_named():
    with pytest.raises(
        ValueError, match=r"frame must have the column `who`\. Received: at, amount\."
    ):
        entity_history(_frame([]).drop(columns="who"), "who", "at", "amount", 2)
