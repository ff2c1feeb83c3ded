"""Numbers, metrics and times as the report writes them."""

from __future__ import annotations

import math

import pytest

from perennial.report.formats import (
    format_change,
    format_duration,
    format_loss,
    format_metric,
    format_p_value,
    format_seconds,
    format_values,
    loss_words,
)
from schemas.records import EvaluatedTask


@pytest.mark.parametrize(
    ("metric", "value", "shown", "change"),
    [
        ("accuracy", 0.9716, "97.2%", "+97.2"),
        ("log_loss", 0.1234, "0.123", "+0.123"),
        ("auc", 0.9, "0.900", "+0.900"),
        ("mean_absolute_error", 2.21, "2.21", "+2.21"),
        ("mean_squared_error", 12345.6, "12,346", "+12,346"),
    ],
)
def test_only_shares_are_percents(metric: str, value: float, shown: str, change: str) -> None:
    assert format_metric(value, metric) == shown
    assert format_change(value, metric) == change and format_change(
        -value, metric
    ) == change.replace("+", "−")
    assert format_metric(math.nan, metric) == "not a number"


def test_the_loss_is_named_after_the_tasks() -> None:
    one, other = EvaluatedTask(name="a", kind="binary"), EvaluatedTask(name="b", kind="regression")
    assert [loss_words(tasks) for tasks in ([one], [other], [one, other], [])] == [
        "loss (nats)",
        "loss (squared error)",
        "loss (sum of tasks)",
        "loss",
    ]
    assert (format_loss(0.5), format_loss(1234.5), format_loss(math.inf)) == (
        "0.500",
        "1,234",
        "infinite",
    )


def test_small_parts() -> None:
    assert format_values({"units": 64, "dropout": 0.1, "norm": True, "kind": "gru"}) == (
        "units 64, dropout 0.1, norm True, kind gru"
    )
    assert (format_p_value(0.0312), format_p_value(1e-9)) == ("p = 0.031", "p < 0.001")
    assert (format_seconds(4.25), format_seconds(59), format_seconds(95), format_seconds(5400)) == (
        "4.2 s",
        "59 s",
        "1 min 35 s",
        "1.5 h",
    )


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("2026-01-03T06:00:20+00:00", "20 s"),
        ("2026-01-03T07:30:00+00:00", "1.5 h"),
        ("2026-01-03T06:00:20", None),
        ("soon", None),
    ],
)
def test_duration(end: str, expected: str | None) -> None:
    assert format_duration("2026-01-03T06:00:00+00:00", end) == expected
