"""JSON Lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from perennial.reading.lines import Line, longest_line, read_lines
from perennial.reading.rows import Part, Reason, Row, shorten


def read_jsonl(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Row]:
    """The object of every line that is not blank."""
    for line in read_lines(stream, part, longest_line(max_value_mb)):
        if line.reason is not None or line.text.strip():
            yield _to_row(line)


def _to_row(line: Line) -> Row:
    if line.reason is not None:
        return Row(line.number, {"line": line.text}, line.reason)
    try:
        values = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        return Row(line.number, {"line": line.text}, Reason("the line must be JSON", f"{shorten(line.text)} ({error})"))
    if not isinstance(values, dict):
        reason = Reason("the line must be a JSON object", shorten(values))
        return Row(line.number, {"line": line.text}, reason)
    return Row(line.number, values)
