"""Rows of a file that cannot be scored, in a file with the reason for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from perennial.readers.rows import Reason, presentable
from schemas.records import SetAside


class SetAsideRows:
    """Writes rows to a file of JSON Lines, one `SetAside` a line, as ingestion does.

    Attributes:
        count: How many there are.
        first: The first one, with its place and reason.
    """

    def __init__(self, span: str, path: Path) -> None:
        self._span, self._path = span, path
        self._file: TextIO | None = None
        self.count = 0
        self.first = ""

    def add(self, place: str, reason: Reason, values: Mapping[str, Any]) -> None:
        """Sets a row aside."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
        row = SetAside(
            span=self._span,
            place=place,
            reasons=[str(reason)],
            values={name: presentable(value) for name, value in values.items()},
        )
        self._file.write(row.model_dump_json() + "\n")
        self.first = self.first or f"{place}: {reason}"
        self.count += 1

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.close()
