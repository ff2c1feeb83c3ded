"""Counts of what the values of columns look like, where no schema says what they are."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from perennial.readers.convert import is_code
from perennial.readers.rows import Value
from schemas.records import ColumnCounts, InferredColumns

MOST_WORDS = 5  # different ones that are kept of a column
# 1,234 and 1.234,50 and 3,5: a person reads a number there, and so might another program.
_SEPARATED = re.compile(r"[-+]?(\d{1,3}([.,' ]\d{3})+([.,]\d+)?|\d+,\d+)", re.ASCII)
# Of these 1.234,50 and 3,5 and 0,125 can only have a decimal comma; 1,234 may be a thousand.
_DECIMAL_COMMA = re.compile(
    r"[-+]?(\d{1,3}([.' ]\d{3})+,\d+|0+,\d+|\d{4,},\d+|\d+,(\d{1,2}|\d{4,}))", re.ASCII
)


class ValueCounts:
    """Counts the values of each column: numbers, codes, numbers with separators, other words."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._numbers: Counter[str] = Counter()
        self._codes: dict[str, Counter[str]] = {}
        self._separated: dict[str, Counter[str]] = {}
        self._decimal_commas: dict[str, Counter[str]] = {}
        self._words: dict[str, Counter[str]] = {}

    def see(self, name: str, value: Any, converted: Value) -> None:
        """Counts a value and what inference made of it; lists are not counted."""
        self._names[name] = None
        if isinstance(converted, int | float):
            self._numbers[name] += 1
        elif isinstance(converted, bytes) and isinstance(value, str | int):
            text = str(value)
            kind = self._words
            if is_code(text):
                kind = self._codes
            elif _DECIMAL_COMMA.fullmatch(text.strip()):
                kind = self._decimal_commas
            elif _SEPARATED.fullmatch(text.strip()):
                kind = self._separated
            words = kind.setdefault(name, Counter())
            words[text if text in words or len(words) < MOST_WORDS else _OTHERS] += 1

    def record(self) -> InferredColumns:
        """Gives the counts."""
        return InferredColumns(
            columns={
                name: ColumnCounts(
                    numbers=self._numbers[name],
                    codes=dict(self._codes.get(name, {})),
                    separated=dict(self._separated.get(name, {})),
                    decimal_commas=dict(self._decimal_commas.get(name, {})),
                    words=dict(self._words.get(name, {})),
                )
                for name in self._names
            }
        )


_OTHERS = ""  # stands for all words but the first few; a cell that is empty holds no value
