"""Checks of what the blocks are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def checked_count(block: str, argument: str, value: Any, least: int = 1) -> int:
    """Checks that an argument is a whole number of at least `least`; gives it.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _wrong(block, argument, f"must be a whole number of at least {least}", value)
    return value


def checked_counts(
    block: str, argument: str, values: Any, length: int | None = None
) -> tuple[int, ...]:
    """Checks that an argument is whole numbers above 0.

    There must be `length` of them, or at least one where there is no length.

    Raises:
        ValueError: They are something else.
    """
    numbers = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []
    whole = all(
        isinstance(number, int) and not isinstance(number, bool) and number > 0
        for number in numbers
    )
    if not numbers or not whole or len(numbers) != (length or len(numbers)):
        how_many = f"{length} whole numbers" if length else "whole numbers"
        raise _wrong(block, argument, f"must be {how_many} above 0", values)
    return tuple(numbers)


def checked_share(block: str, argument: str, value: Any) -> float:
    """Checks that an argument is a number from 0 to less than 1; gives it.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise _wrong(block, argument, "must be a number from 0 to less than 1", value)
    return float(value)


def checked_names(block: str, argument: str, names: Iterable[Any]) -> list[str]:
    """Checks names of features or layers: at least one, all different, none with a slash.

    A slash separates the parts of a path.

    Raises:
        ValueError: They are something else.
    """
    given = list(names)
    if not all(isinstance(name, str) and name and "/" not in name for name in given):
        raise _wrong(block, argument, "must be names without `/`", given)
    if not given or len(set(given)) < len(given):
        raise _wrong(block, argument, "must be one name or more, all different", given)
    return given


def checked_name(block: str, name: Any) -> str:
    """Checks the name of a block, which has no slash; gives it.

    Raises:
        ValueError: It is something else.
    """
    return checked_names(block, "name", [name])[0]


def checked_activation(block: str, value: Any) -> str:
    """Checks that an argument is the name of an activation that Keras knows; gives it.

    Raises:
        ValueError: It is something else.
    """
    import keras

    if not isinstance(value, str) or not callable(getattr(keras.activations, value, None)):
        raise _wrong(
            block, "activation", "must name one of Keras's activations, such as relu or gelu", value
        )
    return value


def _wrong(block: str, argument: str, expected: str, received: Any) -> ValueError:
    return ValueError(f"blocks.{block}: {argument} {expected}. Received: {received!r}.")
