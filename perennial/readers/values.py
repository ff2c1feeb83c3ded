"""Rules for one value, shared by ingestion, batch prediction and the model server."""

from __future__ import annotations

import base64
import datetime
import math
import sys
import uuid
from decimal import Decimal
from typing import Any

# The greatest number that rounds to one of 32 bits, in which tf.Example holds numbers.
# Source: IEEE 754.
LARGEST = (2 - 2**-24) * 2.0**127 * (1 - 2**-53)
BASE64 = "b64"
LARGEST_OF = {"float32": LARGEST, "float64": sys.float_info.max}
# What tools write for a truth value, where a cell can only hold text.
TRUE_WORDS, FALSE_WORDS = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_TRUTH = dict.fromkeys(TRUE_WORDS, 1) | dict.fromkeys(FALSE_WORDS, 0)
# Made once: these run for every value.
_NUMBERS, _FRACTIONS, _BYTES = (
    (int, float, Decimal),
    (float, Decimal),
    (bytes, bytearray, memoryview),
)


def to_int(value: Any, bits: int = 64) -> int:
    """Reads a whole number; a number without a fraction, such as 3.0, is one, also as text.

    A truth value is 1 or 0, also as text.

    Raises:
        ValueError: It has a fraction, or is text of something else.
        OverflowError: So many bits cannot hold it.
        TypeError: It is neither a number nor text.
    """
    if isinstance(value, str):
        number = _parse_int(_as_digits(value))
    elif isinstance(value, int):
        number = int(value)  # a bool too
    elif isinstance(value, _FRACTIONS):
        number = int(value)
        if number != value:
            raise ValueError(value)
    else:
        number = _parse_int(_as_digits(value))
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise OverflowError(number)
    return number


def to_float(value: Any, largest: float = LARGEST) -> float:
    """Reads a number, also one that is text; NaN is a number, and a truth value is 1 or 0.

    Raises:
        ValueError: It is text of something else.
        OverflowError: It is finite and beyond the largest number.
        TypeError: It is neither a number nor text.
    """
    if isinstance(value, _NUMBERS):
        number = float(value)
    else:
        text = _as_digits(value)
        try:
            number = float(text)
        except ValueError:
            number = float(_read_truth(text))
    if not -largest <= number <= largest and math.isfinite(number):
        raise OverflowError(number)
    return number


def to_bytes(value: Any) -> bytes:
    """Reads text, as UTF-8, or bytes; whole numbers, dates, durations and UUIDs become text.

    JSON holds bytes as TensorFlow Serving has it, `{"b64": "iVBORw0K..."}`.

    Raises:
        UnicodeEncodeError: The text holds half of a surrogate pair.
        ValueError: It is `{"b64": ...}` of something else than base64.
        TypeError: It is something else, such as 1.0 or true: which text it would be is not known.
    """
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, _BYTES):
        return bytes(value)
    if is_base64(value):
        return base64.b64decode(value[BASE64], validate=True)
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat().encode()
    if isinstance(value, bool):
        raise TypeError(type(value))
    if isinstance(value, int | datetime.timedelta | uuid.UUID | Decimal):
        return str(value).encode()
    raise TypeError(type(value))


def is_base64(value: Any) -> bool:
    """Tells whether a value of JSON is `{"b64": "..."}`, which stands for bytes."""
    return isinstance(value, dict) and value.keys() == {BASE64} and isinstance(value[BASE64], str)


def to_json(value: bytes) -> str | dict[str, str]:
    """Gives text as JSON holds it, or bytes that are no text in UTF-8 as `{"b64": "..."}`."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {BASE64: base64.b64encode(value).decode()}


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        if text in _TRUTH:
            return _TRUTH[text]
        number = float(text)  # tools that hold missing values write whole numbers as 3.0
        if not number.is_integer():
            raise
        return int(number)


def _read_truth(text: str) -> int:
    if text not in _TRUTH:
        raise ValueError(text)
    return _TRUTH[text]


def _as_digits(value: Any) -> str:
    """Gives the text of a number; Python would take digits of every script, and underscores."""
    text = value.decode("ascii") if isinstance(value, bytes) else value
    if not isinstance(text, str) or "_" in text or not text.isascii():
        raise TypeError(type(value))
    return text
