"""Words that several commands share: times, spans of time, lists, and the console they are printed on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console

_WIDEST = 400  # where no terminal folds the lines


def when(at: str | datetime) -> str:
    """A time for people: `2026-01-31 14:05:09 UTC`."""
    moment = parse_time(at) if isinstance(at, str) else at
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def parse_time(at: str) -> datetime:
    """A time of the ledger (ISO 8601, UTC)."""
    return datetime.fromisoformat(at)


def lasted(seconds: float) -> str:
    """A span of time in its two greatest units: `3 d 4 h`, `2 min 5 s`."""
    rest, parts = max(0, round(seconds)), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    first = next((number for number, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def plain_console() -> Console:
    """A console that folds nothing: each fact stays one line."""
    console = Console(soft_wrap=True)
    return console if console.is_terminal else Console(soft_wrap=True, width=_WIDEST)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Prints facts; what begins at the margin is bold."""
    for line in lines:
        console.print(line, style=None if line.startswith(" ") else "bold", highlight=False, markup=False)
