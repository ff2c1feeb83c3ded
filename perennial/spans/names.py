"""Names of spans: which are allowed, and their order."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perennial.errors import DataError

LONGEST_NAME = 120  # it is part of keys in the ledger and of names of folders


@dataclass(frozen=True)
class LandedSpan:
    """A span that has landed, before the ledger is asked about it.

    `version` is the one that its location names; None where it names none, and the ledger has to
    count them.
    """

    name: str
    version: int | None
    uri: str
    fingerprint: str


def span_order(name: str) -> tuple[int, int, str]:
    """Gives the sort key of a name: numbers by value, then all others (ISO dates too) as text."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def check_name(name: str, where: str) -> None:
    """Checks that a name can be that of a span.

    Raises:
        DataError: It is empty, too long, or cannot be the name of a folder.
    """
    if name in ("", ".", "..") or len(name) > LONGEST_NAME or re.search(r"[/\x00-\x1f]", name):
        expected = f"must name its spans in 1 to {LONGEST_NAME} characters without a slash"
        raise DataError(
            where, expected, repr(name[: LONGEST_NAME + 1]), "Name the span by a date or a number."
        )
