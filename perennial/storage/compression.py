"""Reads compressed files, recognised by their suffix."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

# What reading a broken compressed file raises, beside an OSError without a number.
CORRUPT = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
# Zeros shrink to a 32,000th: so little is read at once that they never fill the memory.
_ZSTD_BLOCK = 1 << 12


def decompressor(suffix: str) -> Callable[[BinaryIO], BinaryIO] | None:
    """Gives the decompressor for a suffix such as `.gz`; None when it is not compressed."""
    return _READERS.get(suffix)


def _read_gzip(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))


def _read_bz2(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, bz2.BZ2File(raw, "rb"))


def _read_xz(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, lzma.LZMAFile(raw, "rb"))


def _read_zstd(raw: BinaryIO) -> BinaryIO:
    return io.BufferedReader(_ZstdFile(raw))


_READERS = {".gz": _read_gzip, ".bz2": _read_bz2, ".xz": _read_xz, ".zst": _read_zstd}
COMPRESSED_SUFFIXES = tuple(_READERS)


class _ZstdFile(io.RawIOBase):
    """Zstandard frames, one after the other.

    The library's own reader, and so fsspec's, ends silently where a file is cut off; this one says
    so.
    """

    def __init__(self, source: BinaryIO) -> None:
        import zstandard

        self._source, self._library = source, zstandard
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input, self._output = b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output and self._more():
            pass
        count = min(len(buffer), len(self._output))
        buffer[:count], self._output = self._output[:count], self._output[count:]
        return count

    def _more(self) -> bool:
        """Decompresses the next block; gives False at the end."""
        self._input = self._input or self._source.read(_ZSTD_BLOCK)
        if not self._input:
            if self._frame is not None:
                raise EOFError("the compressed file ends in the middle of a frame")
            return False
        if self._frame is None:
            self._frame = self._library.ZstdDecompressor().decompressobj()
        try:
            self._output = self._frame.decompress(self._input)
        except self._library.ZstdError as error:
            raise OSError(f"not Zstandard: {error}") from error
        self._input = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
        return True
