"""Checks the columns of a span against the schema and the span before it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from perennial.schema.environments import TRAINING, is_in_environment
from schemas.project import Severity
from schemas.records import Check

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

ORDER = "order of the columns"
_SHOWN = 40
_SIMILAR = 0.7


def check_columns(
    place: str,
    columns: Sequence[str],
    schema: Schema,
    previous: Sequence[str] | None,
    ordered: bool,
    severity: Severity,
) -> list[Check]:
    """Makes a check for each missing or new column, or for all, and one for their order.

    Args:
        place: What messages call the span's file or table.
        columns: The span's columns, in their order.
        schema: Its features in the training environment are expected.
        previous: The columns of the good span before, None without one.
        ordered: Whether the order carries meaning, as in CSV.
        severity: What a failure does.
    """
    features = training_features(schema)
    if not features:
        return [_check(place, "not_compared", "schema.pbtxt names no features", severity)]
    names = [feature.name for feature in features]
    missing = [name for name in names if name not in columns]
    new = [name for name in columns if name not in names]
    renamed = _renamed(missing, new)
    required = {feature.name for feature in features if _is_required(feature)}
    checks = [
        _check(name, "failed", _missing_message(place, name, columns, renamed), severity)
        for name in missing
        if name in required or name in renamed
    ]
    checks += [
        _check(
            name,
            "failed",
            f"{place} must have only the columns {_list(names)}. Received: `{name}` too",
            severity,
        )
        for name in new
        if name not in renamed.values()
    ]
    if not checks:
        checks = [_check(place, "passed", f"{len(columns)} columns, as the schema says", severity)]
    return checks + (_check_order(place, columns, previous, severity) if ordered else [])


def training_features(schema: Schema) -> list[Feature]:
    """Lists the features that a span should have: those of TRAINING that are not deprecated."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    return [
        feature
        for feature in schema.feature
        if feature.lifecycle_stage != schema_pb2.DEPRECATED
        and is_in_environment(schema, feature, TRAINING)
    ]


def _is_required(feature: Feature) -> bool:
    return bool(feature.presence.min_fraction > 0 or feature.presence.min_count > 0)


def _renamed(missing: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    """Guesses which new column a missing one became, where each is the other's nearest."""
    likely = {}
    for name in missing:
        near = difflib.get_close_matches(
            name.lower(), [other.lower() for other in new], 1, _SIMILAR
        )
        became = next((other for other in new if near and other.lower() == near[0]), None)
        if became and difflib.get_close_matches(
            became.lower(), [m.lower() for m in missing], 1
        ) == [name.lower()]:
            likely[name] = became
    return likely


def _missing_message(place: str, name: str, columns: Sequence[str], renamed: dict[str, str]) -> str:
    message = f"{place} must have the column `{name}`. Received: {_list(columns)}"
    return f"{message}. Did `{name}` become `{renamed[name]}`?" if name in renamed else message


def _check_order(
    place: str, columns: Sequence[str], previous: Sequence[str] | None, severity: Severity
) -> list[Check]:
    if not previous:
        return [_check(ORDER, "not_compared", "there is no earlier span in the window", severity)]
    expected = [name for name in previous if name in columns]
    received = [name for name in columns if name in previous]
    if expected == received:
        return [_check(ORDER, "passed", "as in the span before", severity)]
    first = next(name for name, other in zip(received, expected, strict=True) if name != other)
    message = (
        f"{place} must have its columns in the order of the span before: {_list(expected)}. "
        f"Received: {_list(received)}; they differ from `{first}` on"
    )
    return [_check(ORDER, "failed", message, severity)]


def _list(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return (", ".join(names[:_SHOWN]) or "no columns") + (f" and {more} more" if more > 0 else "")


def _check(
    subject: str,
    verdict: Literal["passed", "failed", "not_compared"],
    message: str,
    severity: Severity,
) -> Check:
    return Check(
        kind="columns", subject=subject, verdict=verdict, message=message, severity=severity
    )
