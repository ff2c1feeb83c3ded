"""Lines of text files, each in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, NamedTuple, Protocol

from perennial.errors import BrokenFileError
from perennial.readers.rows import MEGABYTE, Part, Reason, in_megabytes

_HEAD = 4096


class ByteStream(Protocol):
    """A stream that lines are read from."""

    def readline(self, limit: int = -1, /) -> bytes:
        """Reads up to the next line feed, or as many bytes as the limit says."""


class PushbackStream:
    """A stream that takes bytes back after they were read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._again = b""

    def read(self, size: int) -> bytes:
        """Reads `size` bytes; fewer only at the end."""
        blocks = [self._again[:size]]
        self._again = self._again[size:]
        missing = size - len(blocks[0])
        while missing and (block := self._stream.read(missing)):
            blocks.append(block)
            missing -= len(block)
        return b"".join(blocks)

    def readline(self, limit: int = -1, /) -> bytes:
        """Reads up to the next line feed, or as many bytes as the limit says."""
        if not self._again:
            return self._stream.readline(limit)
        end = self._again.find(b"\n") + 1
        size = end or len(self._again)
        size = min(size, limit) if limit >= 0 else size
        line, self._again = self._again[:size], self._again[size:]
        if end or self._again or len(line) == limit:
            return line
        return line + self._stream.readline(limit - len(line) if limit >= 0 else -1)

    def give_back(self, data: bytes) -> None:
        """Puts bytes in front of what is still to be read."""
        self._again = data + self._again


class Line(NamedTuple):
    """A line with its end. With a `reason`, the line cannot be read and `text` stands in for it."""

    number: int
    text: str
    reason: Reason | None = None


def longest_line(max_value_mb: float) -> int:
    """Gives the most bytes kept of a line: room for a few of the largest quoted values."""
    return int(4 * max_value_mb * MEGABYTE) + 4096


def read_lines(stream: ByteStream, part: Part, longest: int, first: int = 1) -> Iterator[Line]:
    """Reads lines of UTF-8, with or without a byte order mark; `first` is the first line's number.

    Raises:
        BrokenFileError: The file holds no text in UTF-8 at all: UTF-16, or bytes of another format.
    """
    for number, raw in enumerate(iter(partial(stream.readline, longest + 1), b""), start=first):
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
            reason = Reason(
                "the line must be text in UTF-8", f"{shown!r} at byte {error.start + 1}"
            )
            yield Line(number, raw.decode("utf-8", errors="replace"), reason)


def _check_text(head: bytes, part: Part) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) // 8:
        kind = (
            "UTF-16"
            if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]
            else "bytes that are no text"
        )
        raise BrokenFileError(
            part.name, "must be text in UTF-8", f"{kind}: {head[:12]!r} at its beginning"
        )


def _too_long(raw: bytes, stream: ByteStream, number: int, longest: int) -> Line:
    """Skips the rest of a line; the stand-in opens and closes quotes just as the line does."""
    size, quotes = len(raw), raw.count(b'"')
    while not raw.endswith(b"\n") and (raw := stream.readline(1 << 20)):
        size, quotes = size + len(raw), quotes + raw.count(b'"')
    reason = Reason(f"the line must be at most {in_megabytes(longest)}", in_megabytes(size))
    return Line(number, '"\n' if quotes % 2 else "\n", reason)
