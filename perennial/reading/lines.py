"""Lines of text files, each in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from perennial.reading.rows import MEGABYTE, BrokenFileError, Part, Reason, in_megabytes

_HEAD = 4096


class Line(NamedTuple):
    """A line with its end. `reason`: why it is not what stands in the file; then `text` is only a stand-in."""

    number: int
    text: str
    reason: Reason | None = None


def longest_line(max_value_mb: float) -> int:
    """Most bytes that are kept of one line: room for a few values of the greatest size and for their quotes."""
    return int(4 * max_value_mb * MEGABYTE) + 4096


def read_lines(stream: BinaryIO, part: Part, longest: int) -> Iterator[Line]:
    """The lines of a text in UTF-8, with or without a byte order mark.

    Raises:
        BrokenFileError: The file holds no text in UTF-8 at all: UTF-16, or bytes of another format.
    """
    for number, raw in enumerate(_raw_lines(stream, longest), start=1):
        if number == 1:
            _check_text(raw[:_HEAD], part)
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if len(raw) > longest:
            yield _too_long(raw, stream, number, longest)
            continue
        try:
            yield Line(number, raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            shown = raw[max(error.start - 10, 0) : error.start + 10]
            reason = Reason("the line must be text in UTF-8", f"{shown!r} at byte {error.start + 1}")
            yield Line(number, raw.decode("utf-8", errors="replace"), reason)


def _raw_lines(stream: BinaryIO, longest: int) -> Iterator[bytes]:
    while raw := stream.readline(longest + 1):
        yield raw


def _check_text(head: bytes, part: Part) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) // 8:
        kind = (
            "UTF-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4] else "bytes that are no text"
        )
        raise BrokenFileError(part.name, "must be text in UTF-8", f"{kind}: {head[:12]!r} at its beginning")


def _too_long(raw: bytes, stream: BinaryIO, number: int, longest: int) -> Line:
    """Passes over the rest of a line; the stand-in opens and closes quotes just as the line does."""
    size, quotes = len(raw), raw.count(b'"')
    while not raw.endswith(b"\n") and (raw := stream.readline(1 << 20)):
        size, quotes = size + len(raw), quotes + raw.count(b'"')
    reason = Reason(f"the line must be at most {in_megabytes(longest)}", in_megabytes(size))
    return Line(number, '"\n' if quotes % 2 else "\n", reason)
