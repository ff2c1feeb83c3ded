"""Spans on disk: finding them by their pattern and taking their fingerprints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from perennial.digests import digest_file
from perennial.errors import ProjectError

_TOKENS = {"YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}", "SPAN": r"[0-9A-Za-z_.-]+?"}
_TOKEN = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class LandedSpan:
    """A span found on disk, before the ledger is asked about it."""

    name: str
    path: Path
    fingerprint: str


def find_spans(folder: Path, pattern: str) -> list[LandedSpan]:
    """Finds the spans below `folder` that match `pattern`, oldest first.

    A span is named by its date (`2026-01-31`) when the pattern has {YYYY}, {MM} and {DD}, else by its {SPAN};
    spans named by whole numbers are ordered as numbers.

    Raises:
        ProjectError: The pattern names no span, or names one that cannot be ordered.
    """
    regex = _compile(pattern)
    wildcard = _TOKEN.sub("*", pattern)
    found = []
    for path in folder.glob(wildcard):
        match = regex.fullmatch(path.relative_to(folder).as_posix())
        if match and path.is_file():
            found.append(LandedSpan(_name(match), path, digest_file(path)))
    return sorted(found, key=lambda span: span_order(span.name))


def span_order(name: str) -> tuple[int, int, str]:
    """Sort key of a span name: numbers as numbers, everything else (ISO dates too) as text after them."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def _compile(pattern: str) -> re.Pattern[str]:
    tokens = _TOKEN.findall(pattern)
    dated = {"YYYY", "MM", "DD"} <= set(tokens)
    once = set(tokens) <= set(_TOKENS) and len(set(tokens)) == len(tokens) and dated != ("SPAN" in tokens)
    if not once or pattern.startswith("/"):
        raise ProjectError(
            "project.yaml: data.spans",
            "must be a path from the project folder that names its spans once, by {YYYY}, {MM} and {DD} or by {SPAN}",
            pattern,
            "For example: data/{YYYY}-{MM}-{DD}.parquet",
        )
    parts = _TOKEN.split(pattern)
    return re.compile(
        "".join(f"(?P<{part}>{_TOKENS[part]})" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    )


def _name(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return groups["SPAN"] if "SPAN" in groups else f"{groups['YYYY']}-{groups['MM']}-{groups['DD']}"
