"""JSON whose objects have each key once."""

from __future__ import annotations

import json
from typing import Any


class DuplicateKeyError(ValueError):
    """An object has a key twice: which of its values is meant is not known."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def parse_unique(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
        DuplicateKeyError: An object has a key twice.
        ValueError: It is not JSON.
        RecursionError: It is nested too deep.
    """
    return json.loads(text, object_pairs_hook=_unique)


def parse_object(line: str) -> Any:
    """Parses JSON that is an object in most cases, as `parse_unique` does but faster.

    Raises:
        DuplicateKeyError: An object has a key twice.
        ValueError: It is not JSON.
        RecursionError: It is nested too deep.
    """
    value = json.loads(line)
    # Each key has its colon: with as many colons as keys no key is there twice.
    if type(value) is dict and line.count(":") == len(value):
        return value
    return parse_unique(line)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise DuplicateKeyError(next(key for key in keys if keys.count(key) > 1))
    return values
