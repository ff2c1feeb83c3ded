"""Formats numbers, metrics, times and messages of the run report."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from perennial.tasks import metric_words
from schemas.records import EvaluatedTask

if TYPE_CHECKING:
    from markupsafe import Markup

# Metrics that are written in percent, and their differences in percentage points.
_IN_PERCENT: frozenset[str] = frozenset({"accuracy"})
# What a difference of other metrics counts; errors are in the label's own units, whatever these
# are.
_UNITS = {"log_loss": "nats"}


def mark_code(text: str) -> Markup:
    """Marks what stands between backquotes as code, and escapes the rest."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def format_number(value: float) -> str:
    """Writes a number with four significant digits, and words for what is not finite."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite" if value > 0 else "−infinite"
    whole = isinstance(value, int) or abs(value) >= 1000
    return (f"{value:,.0f}" if whole else f"{value:.4g}").replace("-", "−")


def format_metric(value: float, metric: str) -> str:
    """Writes a metric: shares in percent, losses to three decimals, errors to four digits."""
    if not math.isfinite(value) or metric.startswith("mean_"):
        return format_number(value)
    return f"{value:.1%}" if metric in _IN_PERCENT else f"{value:.3f}".replace("-", "−")


def format_loss(value: float) -> str:
    """Writes a loss: to three decimals while it is small, as losses of classes are."""
    return (
        format_number(value)
        if not math.isfinite(value) or abs(value) >= 100
        else format_metric(value, "loss")
    )


def format_change(value: float, metric: str) -> str:
    """Writes a signed difference: shares in percentage points, else as `format_metric` does."""
    if not math.isfinite(value):
        return format_number(value)
    if metric.startswith("mean_"):
        return ("+" if value >= 0 else "") + format_number(value)
    percents = metric in _IN_PERCENT
    return (f"{100 * value:+.1f}" if percents else f"{value:+.3f}").replace("-", "−")


def format_p_value(value: float) -> str:
    """Writes a p-value as part of a sentence: `p = 0.03`, `p < 0.001`."""
    if not math.isfinite(value):
        return f"p is {format_number(value)}"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def format_seconds(seconds: float) -> str:
    """Writes a length of time."""
    if not math.isfinite(seconds):
        return format_number(seconds)
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return (
        f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
        if seconds < 3600
        else f"{seconds / 3600:.1f} h"
    )


def format_value(value: float | str | bool) -> str:
    """Writes the value of a hyperparameter."""
    if isinstance(value, bool | str):
        return str(value)
    return format_number(value)


def format_values(values: Mapping[str, float | str | bool]) -> str:
    """Writes several hyperparameters in one line: `dropout 0.1, units 64`."""
    return ", ".join(f"{name} {format_value(value)}" for name, value in values.items())


def format_time(moment: str) -> str:
    """Writes an ISO 8601 time as a person does; anything else stays as it is."""
    try:
        at = datetime.datetime.fromisoformat(moment)
    except ValueError:
        return moment
    zone = f" {at.tzname()}" if at.tzinfo else ""
    return f"{at.day} {at:%B %Y, %H:%M:%S}{zone}"


def format_duration(start: str, end: str) -> str | None:
    """Writes the time between two ISO 8601 times; None where they cannot be compared."""
    try:
        seconds = (
            datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)
        ).total_seconds()
    except (TypeError, ValueError):  # one with a zone and one without cannot be subtracted
        return None
    if seconds < 60:
        return f"{seconds:.0f} s"
    return format_seconds(seconds)


def unit_of(metric: str) -> str:
    """Gives the unit of a difference in a metric; empty where none is known."""
    return "points" if metric in _IN_PERCENT else _UNITS.get(metric, "")


def scale_of(metric: str) -> int:
    """Gives what a metric is multiplied by where it is drawn: 100 where it is in percent."""
    return 100 if metric in _IN_PERCENT else 1


def axis_unit(metric: str) -> str:
    """Labels an axis with differences of a metric."""
    unit = "percentage points" if metric in _IN_PERCENT else unit_of(metric)
    return metric_words(metric) + (f", {unit}" if unit else "")


def metric_axis(metric: str, split: str) -> str:
    """Labels an axis with a metric's own values."""
    return f"{split} {metric_words(metric)}{' (%)' if metric in _IN_PERCENT else ''}"


def loss_words(tasks: Sequence[EvaluatedTask]) -> str:
    """Describes the training loss of these tasks, and its unit where it has one."""
    if len(tasks) > 1:
        return "loss (sum of tasks)"
    if tasks and tasks[0].kind == "regression":
        return "loss (squared error)"
    return "loss (nats)" if tasks else "loss"
