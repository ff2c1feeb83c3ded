"""An example as a person reads it, and counts of examples by their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perennial.data.examples import as_text

if TYPE_CHECKING:
    import tensorflow as tf

_VALUES_SHOWN = 8
_CHARACTERS_SHOWN = 200


def values_of(example: tf.train.Example) -> dict[str, Any]:
    """Shows an example's values: one as it is, several as a list; long ones are shortened."""
    return {
        name: _shown(_values(feature)) for name, feature in sorted(example.features.feature.items())
    }


def value_name(example: tf.train.Example, feature: str) -> str:
    """Gives the value of a feature as counts do: `missing` where there is none."""
    kind = (
        example.features.feature[feature].WhichOneof("kind")
        if feature in example.features.feature
        else None
    )
    values = getattr(example.features.feature[feature], kind).value if kind else []
    if not values:
        return "missing"
    return (
        values[0].decode("utf-8", errors="backslashreplace")
        if isinstance(values[0], bytes)
        else str(values[0])
    )


def count_without(counts: Mapping[str, int], gone: Counter[str]) -> dict[str, int]:
    """Subtracts counts by name; a name of which none is left is dropped."""
    return {name: count - gone[name] for name, count in counts.items() if count > gone[name]}


def _values(feature: tf.train.Feature) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return [as_text(value) for value in getattr(feature, kind).value] if kind else []


def _shown(values: list[Any]) -> Any:
    shown = [_shortened(value) for value in values[:_VALUES_SHOWN]]
    if len(values) == 1:
        return shown[0]
    return [*shown, f"… {len(values)} values"] if len(values) > _VALUES_SHOWN else shown


def _shortened(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _CHARACTERS_SHOWN:
        return value
    return f"{value[:_CHARACTERS_SHOWN]}… {len(value)} characters"
