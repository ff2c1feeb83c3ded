"""Limits of requests: their rate for each token, the size of a body, the depth of its JSON.

Pure but for the buckets' lock: no KServe, no I/O.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perennial.errors import InputError
from schemas.project import LimitSettings

MEGABYTE = 1_000_000
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_QUOTE = ord('"')
_STEPS = np.zeros(256, np.int8)  # what a byte outside a string adds to the depth
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


@dataclass
class _Bucket:
    """Requests that a token may still send at once, as of a moment in monotonic seconds."""

    left: float
    at: float


class RateLimit:
    """Counts each token's requests by a bucket that fills up at the allowed rate.

    Calls may come from several threads at once. The clock is monotonic: setting the machine's time
    neither stops a client nor lets one through.

    Source: the token bucket of RFC 2697, section 3, with one rate.
    """

    def __init__(self, limits: LimitSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = limits.requests_per_second, limits.burst, clock
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Counts a request of a token; gives the seconds until the next is allowed, 0: this is."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        with self._lock:
            bucket = self._buckets.setdefault(name, _Bucket(self._burst, now))
            bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
            bucket.at = now
            if bucket.left < 1:
                return (1 - bucket.left) / self._rate
            bucket.left -= 1
            return 0.0


def check_depth(body: bytes, deepest: int) -> None:
    """Checks how deep the lists and objects of a JSON text are nested.

    A text that is no JSON passes, or is refused; the parser says what is wrong with it.

    Raises:
        InputError: They are nested deeper than allowed.
    """
    if body.count(b"[") + body.count(b"{") <= deepest:
        return
    text = _ESCAPED.sub(b"", body) if b"\\" in body else body
    values = np.frombuffer(text, np.uint8)
    inside = np.bitwise_xor.accumulate(values == _QUOTE)
    depth = int(np.cumsum(np.where(inside, 0, _STEPS[values]), dtype=np.int64).max())
    if depth > deepest:
        raise InputError(
            "the request's body",
            f"must be nested at most {deepest} deep",
            f"{depth} deep",
            "Send it flatter; serving.limits.depth sets the limit.",
        )


def check_rows(rows: int, most: int | None, where: str = "instances") -> None:
    """Checks how many instances a request holds.

    Raises:
        InputError: They are more than allowed.
    """
    if most is not None and rows > most:
        raise InputError(
            where,
            f"must be at most {most:,} in a request",
            f"{rows:,}",
            "Send them in several requests, or score a file with `perennial predict`; "
            "serving.limits.instances sets the limit.",
        )
