"""Fingerprints of spans: equal while the bytes of a span stay the same."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedIOBase
from types import TracebackType
from typing import cast

from perennial.errors import DataError, StoreError
from perennial.storage.digests import digest_value
from perennial.storage.files import expand, open_bytes, stat_of
from perennial.storage.generations import Generation, Generations
from perennial.storage.objects import open_objects

Stat = list[int | str]

# A file may change again within one tick of its file system's clock, unseen: what was written less
# than this before it was hashed is hashed again. Source: git's "racy" rule, with the two seconds of
# the coarsest clock (FAT).
_RACY_NS = 2_000_000_000


def memo_in(root: str, name: str) -> Generations:
    """Gives the memo of this name in a root."""
    return Generations(open_objects(root), f"memos/{name}")


def fingerprint(uri: str) -> str:
    """Computes the fingerprint of a location now, to check that a span is as it was selected.

    Raises:
        DataError: Nothing lies there, or it cannot be read.
    """
    return Fingerprints(None).of(uri, expand(uri))


class Fingerprints:
    """Fingerprints with a memo of file digests, so that a daily run does not read old spans again.

    Args:
        memo: Holds the memo; None: nothing is remembered. One that is damaged is made anew.

    Raises:
        StoreError: The memo's store cannot be read.
    """

    def __init__(self, memo: Generations | None) -> None:
        self._memo = memo
        self._before = memo.newest() if memo else Generation(0, b"")
        self._known: dict[str, tuple[Stat, str]] = _parse(self._before.data)
        self._used: dict[str, tuple[Stat, str]] = {}

    def __enter__(self) -> Fingerprints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Publishes the memo, also after an error: the digests are right all the same."""
        kept = self._used if error is None else self._known | self._used
        if self._memo is not None and kept != self._known:
            # Who may only look reads more, and is not refused.
            with suppress(OSError, StoreError):
                self._memo.add(self._before, json.dumps(kept, indent=0).encode())

    def of(self, uri: str, files: Sequence[str]) -> str:
        """Computes a span's fingerprint: a file's SHA-256, or a digest over names and SHA-256s.

        Raises:
            DataError: A file cannot be read, or changes while it is read.
        """
        if "*" not in uri:
            return self._digest(files[0])
        base = uri[: uri.index("*")].rpartition("/")[0]
        return digest_value(
            [[file.removeprefix(base), self._digest(file)] for file in sorted(files)]
        )

    def _digest(self, file: str) -> str:
        before = stat_of(file)
        known = self._known.get(file)
        if known is not None and known[0] == before:
            self._used[file] = known
            return known[1]
        now = time.time_ns()
        with open_bytes(file, decompress=False) as stream:
            digest = hashlib.file_digest(cast(BufferedIOBase, stream), "sha256").hexdigest()
        after = stat_of(file)
        if after != before:
            raise DataError(
                file,
                "must not change while it is read",
                "other bytes",
                "Land it whole, then run again.",
            )
        if after is not None and not _racy(after, now):
            self._used[file] = (after, digest)
        return digest


def _racy(stat: Stat, hashed_ns: int) -> bool:
    """Tells whether a file was written so recently that another change could look the same."""
    times = [
        value for value in stat[1:3] if isinstance(value, int)
    ]  # of a local file: modified, changed
    return any(hashed_ns - at < _RACY_NS for at in times)


def _parse(memo: bytes) -> dict[str, tuple[Stat, str]]:
    try:
        entries = json.loads(memo)
        return {str(file): (list(stat), str(digest)) for file, (stat, digest) in entries.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
