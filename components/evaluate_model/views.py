"""Views of the test split that matter in production: the newest span, and what drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from perennial.errors import NotComparedError
from perennial.evaluation.prediction_table import SPAN, VIEW, Array, Examples, read_values
from schemas.records import Span, Validation

NEWEST = "newest span"
DRIFTED = "drifted: "
_DRIFTS = ("drift", "label_drift", "skew")
# Numbers with more different values are looked at by tenths.
_SMALL = 20
# Texts with more different values, most of them seen once, are written by people.
_FREE_TEXT = 100
# A share that grew by less than so many standard errors may not have grown at all.
_STANDARD_ERRORS = 2

Raw = Sequence[list[Any] | None]
"""Raw values of a feature, one list for each example; None where it is missing."""


@dataclass(frozen=True)
class Views:
    """The examples in each view, bool [n] by its name, and why other views are missing."""

    masks: dict[str, Array] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)

    def add(self, name: str, find: Callable[[], Array]) -> None:
        """Adds the view that a function finds, or why there is none."""
        try:
            self.masks[name] = find()
        except NotComparedError as reason:
            self.not_compared.append(f"{name}: {reason}")


def find_views(examples: Examples, window: Sequence[Span], validation: Validation | None) -> Views:
    """Finds the views of test examples.

    Args:
        examples: The test split.
        window: Its spans, oldest first.
        validation: What the run's data checks found; None: it is not known what drifted.
    """
    views = Views()
    spans, names = examples.named[SPAN].to_numpy(), [span.name for span in window]
    views.add(NEWEST, partial(newest_rows, spans, names))
    if validation is None:
        views.not_compared.append("what drifted: there is no record of the data checks")
        return views
    drifted = drifted_features(validation, window)
    values = read_values(examples.records, drifted) if drifted else {}
    for feature, rows in values.items():
        views.add(DRIFTED + feature, partial(_grown_in_newest, rows, spans, names))
    return views


def with_views(examples: Examples, views: Views) -> Examples:
    """Adds a column for each view to the examples."""
    return Examples(
        examples.records,
        examples.named.assign(**{VIEW + name: of for name, of in views.masks.items()}),
    )


def drifted_features(validation: Validation, window: Sequence[Span]) -> list[str]:
    """Lists the features that drifted, or are otherwise in serving, by the data checks."""
    names = {span.name for span in window}
    checks = [
        check for span in validation.spans if span.span.name in names for check in span.checks
    ]
    return sorted(
        {check.subject for check in checks if check.kind in _DRIFTS and check.verdict == "failed"}
    )


def newest_rows(spans: Array, window: Sequence[str]) -> Array:
    """Marks the examples of the window's newest span, bool [n].

    Args:
        spans: Each example's span [n].
        window: Names of the spans, oldest first.

    Raises:
        NotComparedError: All examples are of that span, or none is.
    """
    if len(window) < 2:
        raise NotComparedError("the window has one span")
    newest: Array = spans == window[-1]
    if newest.all():
        raise NotComparedError(f"all test examples are of span {window[-1]}")
    if not newest.any():
        raise NotComparedError(f"no test example is of span {window[-1]}")
    return newest


def grown_rows(values: Raw, newest: Array) -> Array:
    """Marks examples with a value that became more frequent in the newest span, bool [n].

    Categories and small numbers are compared value by value, other numbers by the tenths of the
    older spans. A value that is missing is one more. A share has grown if chance does not explain
    it.

    Args:
        values: The feature's values.
        newest: Which examples are of the newest span, bool [n], some and not all.

    Raises:
        NotComparedError: The values cannot be compared, or none became more frequent.
    """
    if max((len(row) for row in values if row), default=0) > 1:
        raise NotComparedError("the feature is a vector")
    codes = _codes([row[0] if row else None for row in values], ~newest)
    grown = _grown(codes, newest)
    if not grown.any():
        raise NotComparedError(
            "no value became more frequent among the test examples than chance explains"
        )
    return grown[codes]


def _grown_in_newest(values: Raw, spans: Array, window: Sequence[str]) -> Array:
    return grown_rows(values, newest_rows(spans, window))


def _codes(values: Sequence[Any], older: Array) -> Array:
    """Numbers each example's value, or the bin that it lies in, int [n]; missing has its own."""
    known = [value for value in values if value is not None]
    different = {value: code for code, value in enumerate(sorted(set(known)), start=1)}
    texts = any(isinstance(value, bytes | str) for value in known)
    if texts and len(different) > _FREE_TEXT and len(different) > len(known) / 2:
        raise NotComparedError("the feature is free text")
    if texts or len(different) <= _SMALL:
        return np.array([different.get(value, 0) for value in values])
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    there = np.isfinite(numbers)
    if not (older & there).any():
        raise NotComparedError("no older test example has it")
    edges = np.unique(np.quantile(numbers[older & there], np.arange(0.1, 1.0, 0.1)))
    return np.where(there, np.searchsorted(edges, numbers, side="right") + 1, 0)


def _grown(codes: Array, newest: Array) -> Array:
    """Marks the codes that are more frequent in the newest span, bool [codes].

    Source: the two-proportion z-test with the pooled share.
    """
    every = int(codes.max()) + 1
    now, before = (np.bincount(codes[rows], minlength=every) for rows in (newest, ~newest))
    new, old = now.sum(), before.sum()
    pooled = (now + before) / (new + old)
    error = np.sqrt(pooled * (1 - pooled) * (1 / new + 1 / old))
    grown: Array = now / new - before / old > _STANDARD_ERRORS * error
    return grown
