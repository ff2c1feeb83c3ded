"""Formats that several commands share: times, durations, colours, and the console for lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from schemas.records import Outcome, RunEnded, RunWarning

OUTCOME_COLOURS: dict[Outcome, str] = {
    "promoted": "green",
    "kept_champion": "cyan",
    "nothing_new": "cyan",
    "data_rejected": "yellow",
    "failed": "red",
}
_WIDEST = 400  # where no terminal folds the lines


def format_time(at: str | datetime) -> str:
    """Writes a time to the second; text is ISO 8601 with an offset: `2026-01-31 14:05:09 UTC`."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_minute(at: str) -> str:
    """Writes a time of the ledger (ISO 8601, UTC) to the minute: `2026-01-31 14:05 UTC`."""
    return f"{at[:10]} {at[11:16]} UTC"


def format_duration(seconds: float) -> str:
    """Writes a duration in its two greatest units: `3 d 4 h`, `2 min 5 s`."""
    rest, parts = max(0, round(seconds)), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def format_bytes(count: int) -> str:
    """Writes a number of bytes in the unit that suits it: `3.2 MB`."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def describe_warnings(ended: RunEnded, report: str | None = None) -> Iterator[str]:
    """Describes the warnings of a run: how many, in which page all are, and the first of them.

    Args:
        ended: The run's end.
        report: The page's path; None: as it stands in the record.
    """
    counts = [f"{ended.warned} warning{'s' * (ended.warned != 1)}"] if ended.warned else []
    counts += [f"{ended.not_compared} not compared"] if ended.not_compared else []
    if counts:
        yield f"{', '.join(counts)} ({report or ended.report})"
        yield from (f"  ! {describe_warning(warning)}" for warning in ended.warnings)


def describe_warning(warning: RunWarning) -> str:
    """Describes a warning in one line: what it is about, in which span, and what was found."""
    kind = warning.kind.replace("_", " ")
    span = f" in span {warning.span}" if warning.span else ""
    return f"{kind}: {warning.subject}{span}: {warning.message}"


def plain_console(soft_wrap: bool = True) -> Console:
    """Makes a console that folds no lines, but for tables on a terminal without `soft_wrap`."""
    from rich.console import Console

    console = Console(soft_wrap=soft_wrap)
    return console if console.is_terminal else Console(soft_wrap=soft_wrap, width=_WIDEST)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Prints lines; those that are not indented are headings, in bold."""
    for line in lines:
        style = None if line.startswith(" ") else "bold"
        console.print(line, style=style, highlight=False, markup=False)
