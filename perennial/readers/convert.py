"""Converts the values of a row to the kinds of their columns, or says why one does not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from perennial.readers.columns import Column, Kind
from perennial.readers.rows import MEGABYTE, Reason, Value, in_megabytes, shorten
from perennial.readers.values import to_bytes, to_float, to_int

Plain = int | float | bytes
Conformed = dict[str, Value]

# Made once: this runs for every value.
_SIZED, _LARGE, _LISTS = (str, bytes, list), (bytes, list), (list, tuple)
_UNFIT = (ValueError, TypeError, ArithmeticError)
_EXPECTED: dict[Kind, str] = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bytes": "must be text",
}
_RANGES: dict[Kind, str] = {
    "int": f"must be a whole number from {-(2**63)} to {2**63 - 1}",
    "float": "must be a number from -3.4e38 to 3.4e38",
}
# A leading zero, or an exponent that has no sign and no point before it.
_CODE = re.compile(r"0\d.*|\d+[eE]\d+", re.ASCII)
_SAFE_DIGITS = 18  # so many always fit


class Conformer:
    """Converts rows.

    Args:
        columns: What is known of the columns; a value of another column keeps its natural kind.
        max_value_mb: Largest value in megabytes.
        guess: Whether text of a column that is not known may be a number or a list.
    """

    def __init__(
        self, columns: Mapping[str, Column], max_value_mb: float, guess: bool = False
    ) -> None:
        self._columns = columns
        self._largest = int(max_value_mb * MEGABYTE)
        self._natural = _guess if guess else _to_natural
        self._converters = {name: _converter(column) for name, column in columns.items()}

    def conform(self, values: Mapping[str, Any]) -> tuple[Conformed, list[Reason]]:
        """Converts the values that are present, and gives the reasons why others do not fit.

        Never raises: a value that does not fit is a reason.
        """
        conformed: Conformed = {}
        reasons: list[Reason] = []
        for name, value in values.items():
            if value is None:
                continue
            try:
                # Before it is converted: text and lists may be large, and conversion makes them
                # larger.
                if isinstance(value, _SIZED) and len(value) > self._largest:
                    raise _TooLargeError(len(value))
                converted = self._converters.get(name, self._natural)(value)
                if isinstance(converted, _LARGE) and (size := _size(converted)) > self._largest:
                    raise _TooLargeError(size)
                conformed[name] = converted
            except _TooLargeError as error:
                expected = f"`{name}` must be at most {self._largest / MEGABYTE:g} MB"
                reasons.append(Reason(expected, in_megabytes(error.size)))
            except _UNFIT as error:
                reasons.append(self._reason(name, value, error))
        return conformed, reasons

    def _reason(self, name: str, value: Any, error: Exception) -> Reason:
        column = self._columns.get(name)
        expected = (
            _EXPECTED[column.kind]
            if column
            else "must be a number, text, a date, or a list of one of them"
        )
        if column and isinstance(error, OverflowError):
            expected = _RANGES[column.kind]
        if isinstance(error, UnicodeError):
            expected = "must be text in UTF-8"
        return Reason(
            f"`{name}` {expected}",
            shorten(_culprit(value, _converter(column)) if column else value),
            of_value=True,
        )


class _TooLargeError(ValueError):
    """A value is larger than a row may hold."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def _converter(column: Column) -> Callable[[Any], Any]:
    scalars: dict[Kind, Callable[[Any], Plain]] = {
        "int": to_int,
        "float": to_float,
        "bytes": to_bytes,
    }
    scalar = scalars[column.kind]
    if column.kind == "bytes" and (column.mixed or column.text):
        scalar = _to_any_bytes if column.mixed else _to_text
    from_list = column.many or column.kind != "bytes"

    def convert(value: Any) -> Any:
        if from_list and isinstance(value, str) and "[" in value:
            value = _parse_list(value)
        if isinstance(value, _LISTS):
            return [scalar(item) for item in _flatten(value, column.shape)]
        return scalar(value)

    return convert


def _flatten(value: Any, shape: tuple[int, ...]) -> Any:
    """Flattens a list that is nested as its feature's shape; a flat list, as in tf.Example, stays.

    Raises:
        ValueError: Some items are lists, and the nesting is not that of the shape.
    """
    if not shape or not any(isinstance(item, _LISTS) for item in value):
        return value
    for size in shape[1:]:
        if not all(isinstance(item, _LISTS) and len(item) == size for item in value):
            raise ValueError(value)
        value = [inner for item in value for inner in item]
    return value


def _to_text(value: Any) -> bytes:
    data = to_bytes(value)
    if not isinstance(value, str):
        data.decode()
    return data


def _to_any_bytes(value: Any) -> bytes:
    return str(value).encode() if isinstance(value, int | float) else to_bytes(value)


def _to_natural(value: Any) -> Any:
    """Converts a value of an unknown column; the items of a list become one kind."""
    if not isinstance(value, _LISTS):
        return _natural_scalar(value)
    items = [_natural_scalar(item) for item in value]
    kinds = {type(item) for item in items}
    if len(kinds) > 1:
        if bytes in kinds:
            raise TypeError(kinds)
        return [float(item) for item in items]
    return items


def _natural_scalar(value: Any) -> Plain:
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else to_bytes(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        exponent = value.as_tuple().exponent
        whole = isinstance(exponent, int) and exponent >= 0
        return _natural_scalar(int(value)) if whole else to_float(value)
    return to_float(value) if isinstance(value, float | Decimal) else to_bytes(value)


def _guess(value: Any) -> Any:
    """Converts a value for inference: text that reads as a number or a list of numbers is one."""
    if not isinstance(value, str):
        return _to_natural(value)
    for convert in () if is_code(value) else (to_int, to_float):
        try:
            return convert(value)
        except _UNFIT:
            continue
    if value.lstrip().startswith("["):
        try:
            return _to_natural(_parse_list(value))
        except _UNFIT:
            return to_bytes(value)
    return to_bytes(value)


def is_code(text: str) -> bool:
    """Tells whether text looks like a number and is the name of something.

    007 would lose its zeros, 12E5 its letter (tools that write exponents give them a sign, or the
    number a point), and 64 bits do not hold longer numbers than those of 19 digits: many would
    become one.
    """
    digits = text.strip()
    if not digits.removeprefix("-").isdecimal():
        return bool(_CODE.fullmatch(digits))
    if digits[0] == "0" and len(digits) > 1:
        return True
    return len(digits) > _SAFE_DIGITS and not -(2**63) <= int(digits[:40]) < 2**63


def kind_of(value: Value) -> Kind | None:
    """Gives the kind of a converted value; None for an empty list."""
    item = value if not isinstance(value, list) else value[0] if value else None
    if item is None:
        return None
    return "bytes" if isinstance(item, bytes) else "float" if isinstance(item, float) else "int"


def _parse_list(text: str) -> list[Any]:
    try:
        items = json.loads(text)
    except RecursionError as error:
        raise ValueError(text[:40]) from error
    if not isinstance(items, list):
        raise TypeError(type(items))
    return items


def _size(value: bytes | list[Any]) -> int:
    if isinstance(value, bytes):
        return len(value)
    return sum(len(item) if isinstance(item, bytes) else 8 for item in value)


def _culprit(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Finds the item of a list that does not fit; else gives the value itself."""
    if isinstance(value, _LISTS):
        for item in value:
            try:
                convert(item)
            except _UNFIT:
                return item
    return value
