"""Converts JSON values to arrays of the features that a model takes.

Pure: no TensorFlow, no I/O. Every value that does not fit is named in an `InputError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perennial.errors import InputError
from perennial.readers.values import (
    BASE64,
    LARGEST_OF,
    is_base64,
    to_bytes,
    to_float,
    to_int,
)
from schemas.records import ServedDomain

FLOATS = ("float32", "float64")
INTEGERS = ("int32", "int64")
TEXT = "string"
DTYPES = (*FLOATS, *INTEGERS, TEXT)
_BYTES_EXAMPLE = f'{{"{BASE64}": "..."}}'
_SHOWN = 60  # characters of a received value in a message

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Feature:
    """One input of the model: its dtype, and the shape of one instance's value (None: any length).

    `default` are the values, flat, that stand for a feature that a client leaves out; None: it must
    be sent. `domain` are the values that the schema allows; None: any.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    default: tuple[int | float | str, ...] | None = None
    domain: ServedDomain | None = None

    @property
    def optional(self) -> bool:
        """Tells whether a client may leave it out."""
        return self.default is not None

    def fill(self) -> object:
        """Gives the default as a client would send it: a value, or lists nested as the shape."""
        values: Array = np.array(self.default, dtype=object)
        return values.reshape([-1 if size is None else size for size in self.shape]).tolist()

    def describe(self, depth: int = 0) -> str:
        """Describes the value at a nesting depth: `64 numbers (float32)`, `a number (float32)`."""
        one, many = {TEXT: ("a string", "strings")}.get(self.dtype, ("a number", "numbers"))
        if self.dtype in INTEGERS:
            one, many = "an integer", "integers"
        dims = self.shape[depth:]
        if not dims:
            return f"{one} ({self.dtype})"
        if len(dims) == 1:
            return f"{'a list of' if dims[0] is None else dims[0]} {many} ({self.dtype})"
        return (
            f"nested lists of {' x '.join('n' if size is None else str(size) for size in dims)} "
            f"{many} ({self.dtype})"
        )


def to_array(rows: Sequence[object], feature: Feature, locate: Callable[[int], str]) -> Array:
    """Converts one feature's values, one for each instance.

    Args:
        rows: JSON values: numbers or strings, in lists nested as deep as the feature's shape.
        feature: What they must be.
        locate: Gives the name of an instance's value in messages.

    Returns:
        Array of shape [len(rows), *feature.shape]; strings as UTF-8 bytes with dtype object.

    Raises:
        InputError: A value has another type, another length, or does not fit the dtype.
    """
    dims = _resolve(rows[0], feature.shape)
    flat: list[object] = []
    for number, row in enumerate(rows):
        _flatten(flat, row, dims, feature, locate(number))

    def locate_value(index: int) -> str:
        row, *path = (int(part) for part in np.unravel_index(index, (len(rows), *dims)))
        return locate(row) + "".join(f"[{part}]" for part in path)

    return to_values(flat, feature, locate_value).reshape(len(rows), *dims)


def to_values(
    flat: list[Any], feature: Feature, locate: Callable[[int], str], exact: bool = False
) -> Array:
    """Converts values that are no longer nested to the feature's dtype.

    Args:
        flat: JSON scalars: numbers, truth values and text, as the rules for values have them.
        feature: What they must be.
        locate: Gives the name of the value with an index in messages.
        exact: Refuse numbers that the dtype cannot hold without rounding.

    Returns:
        Array of shape [len(flat)].

    Raises:
        InputError: A value has another type or does not fit the dtype.
    """
    quick = None if exact else _convert_usual(flat, feature)
    if quick is not None:
        return quick
    values = [_checked(value, feature, locate, index, exact) for index, value in enumerate(flat)]
    return np.array(values, dtype=object if feature.dtype == TEXT else feature.dtype)


def show(value: object) -> str:
    """Describes a received JSON value in words, safe to put into any message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {_shorten(ascii(value))}"
    if isinstance(value, list):
        numbers = all(
            isinstance(item, int | float) and not isinstance(item, bool) for item in value
        )
        noun = "number" if numbers and value else "value"
        return f"a list of {len(value)} {noun}{'' if len(value) == 1 else 's'}"
    if isinstance(value, dict):
        return f"an object with {_shorten(ascii(list(value))) if value else 'no keys'}"
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "an integer of more than 60 digits"  # repr() refuses those of more than 4,300
    return _shorten(repr(value))


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _resolve(value: object, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Gives the shape with free lengths taken from the first instance; all must agree with it."""
    dims: list[int] = []
    for size in shape:
        inner = value if isinstance(value, list) else []
        dims.append(len(inner) if size is None else size)
        value = inner[0] if inner else None
    return tuple(dims)


def _flatten(
    flat: list[object], value: object, dims: tuple[int, ...], feature: Feature, where: str
) -> None:
    if not dims:
        flat.append(value)
        return
    if not isinstance(value, list) or len(value) != dims[0]:
        raise _wrong_shape(value, dims, feature, where)
    if len(dims) == 1:
        flat.extend(value)
        return
    for number, item in enumerate(value):
        _flatten(flat, item, dims[1:], feature, f"{where}[{number}]")


def _wrong_shape(value: object, dims: tuple[int, ...], feature: Feature, where: str) -> InputError:
    depth = len(feature.shape) - len(dims)
    expected = f"must be {feature.describe(depth)}"
    if isinstance(value, list) and feature.shape[depth] is None:
        expected += f", {dims[0]} as in the first instance"
    return InputError(
        where,
        expected,
        show(value),
        "Send every value." if isinstance(value, list) else "Send a list.",
    )


def _convert_usual(flat: list[Any], feature: Feature) -> Array | None:
    """Converts at NumPy's speed where every value fits plainly; None: look at each value."""
    types = set(map(type, flat))
    try:
        if feature.dtype in FLOATS and types <= {int, float}:
            with np.errstate(over="ignore"):
                array = np.array(flat, dtype=np.float64).astype(feature.dtype)
            return array if bool(np.isfinite(array).all()) else None
        if feature.dtype in INTEGERS and types <= {int}:
            return np.array(flat, dtype=feature.dtype)
        if feature.dtype == TEXT and types <= {str}:
            return np.array([value.encode() for value in flat], dtype=object)
    except (OverflowError, UnicodeEncodeError):
        return None
    return None


def _checked(
    value: Any, feature: Feature, locate: Callable[[int], str], index: int, exact: bool
) -> Any:
    """Gives the value as NumPy should get it."""
    if feature.dtype == TEXT:
        return _checked_text(value, feature, locate, index)
    if not isinstance(value, int | float | str | np.bool_):
        remedy = f"Send {feature.describe(len(feature.shape))}."
        raise _unfit(locate(index), feature, value, remedy)
    if isinstance(value, float) and not math.isfinite(value):
        raise _unfit(locate(index), feature, value, "Send a finite number.")
    if isinstance(value, np.bool_):
        value = bool(value)
    if feature.dtype in INTEGERS:
        return _checked_integer(value, feature, locate, index)
    return _checked_float(value, feature, locate, index, exact)


def _checked_text(value: Any, feature: Feature, locate: Callable[[int], str], index: int) -> bytes:
    # Bytes are what follows a v2 request in binary.
    fits = isinstance(value, str | bytes | int) and not isinstance(value, bool)
    if not fits and not is_base64(value):
        raise _unfit(locate(index), feature, value, f"Send a string, or bytes as {_BYTES_EXAMPLE}.")
    try:
        return to_bytes(value)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and UTF-8 cannot
        raise _unfit(locate(index), feature, value, "Send text that UTF-8 can hold.") from None
    except ValueError as error:  # not base64
        where = f"{locate(index)}.{BASE64}"
        remedy = "Send the bytes in base64, with its padding."
        raise InputError(where, "must be base64", error, remedy) from None


def _checked_integer(
    value: float | str, feature: Feature, locate: Callable[[int], str], index: int
) -> int:
    limits = np.iinfo(feature.dtype)
    try:
        return to_int(value, limits.bits)
    except OverflowError:
        raise _unfit(
            locate(index), feature, value, f"Send one from {limits.min} to {limits.max}."
        ) from None
    except (ValueError, TypeError):
        raise _unfit(locate(index), feature, value, "Send an integer.") from None


def _checked_float(
    value: float | str, feature: Feature, locate: Callable[[int], str], index: int, exact: bool
) -> float:
    try:
        number = to_float(value, LARGEST_OF[feature.dtype])
        held = float(np.dtype(feature.dtype).type(number))
    except (ValueError, TypeError):
        remedy = f"Send {feature.describe(len(feature.shape))}."
        raise _unfit(locate(index), feature, value, remedy) from None
    except OverflowError:
        raise _unfit(
            locate(index), feature, value, f"Send one below {np.finfo(feature.dtype).max:.3g}."
        ) from None
    if not math.isfinite(number):  # such as the text NaN
        raise _unfit(locate(index), feature, value, "Send a finite number.")
    if exact and held != number:
        remedy = (
            f"It would be rounded to {held!r}: round it yourself and send it as "
            f"{_OWN_DATATYPE[feature.dtype]}."
        )
        raise _unfit(locate(index), feature, value, remedy)
    return held


_OWN_DATATYPE = {"float32": "FP32", "float64": "FP64"}


def _unfit(where: str, feature: Feature, value: object, remedy: str) -> InputError:
    return InputError(where, f"must be {feature.describe(len(feature.shape))}", show(value), remedy)
