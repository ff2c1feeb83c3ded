"""Landed spans on disk, on other file systems and in databases."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import DataError, ProjectError
from perennial.spans.names import LandedSpan, check_name, span_order
from perennial.storage.files import is_url, list_files, stat_of
from perennial.storage.fingerprints import Fingerprints, memo_in

if TYPE_CHECKING:
    from perennial.project import Project
    from perennial.storage.generations import Generations

MEMO = "spans"

_TOKENS = {
    "YYYY": r"\d{4}",
    "MM": r"\d{2}",
    "DD": r"\d{2}",
    "SPAN": r"[0-9A-Za-z_.-]+?",
    "VERSION": r"\d+",
}
_WITH_WIDTH = ("SPAN", "VERSION")
# A token, with TFX's width (`{SPAN:3}`: three digits), or the wildcard.
_PART = re.compile(r"\{([^{}:]*)(?::(\d+))?\}|(\*)")


def find_landed(project: Project) -> list[LandedSpan]:
    """Finds every version of every span of a project, oldest first.

    Raises:
        ProjectError: The settings name no spans.
        DataError: The place cannot be looked into, or a file of a span cannot be read.
        StoreError: The root, which holds the memo of fingerprints, cannot be read.
    """
    data = project.settings.data
    if data.table is not None:
        from perennial.spans.database import find_table_spans

        return find_table_spans(data.table)
    return find_spans(project.folder, data.spans or "", memo_in(project.root, MEMO))


def stat_landed(project: Project) -> dict[str, list[int | str] | None]:
    """Gives for each landed file what changes whenever its bytes do; nothing is read.

    Of a table it gives the same for each span.

    Raises:
        ProjectError: The settings name no spans.
        DataError: The place cannot be looked into, or a file is gone again.
    """
    data = project.settings.data
    if data.table is not None:
        from perennial.spans.database import find_table_spans

        return {span.name: [span.fingerprint] for span in find_table_spans(data.table)}
    pattern = (data.spans or "").removeprefix("file://")
    whole = pattern if is_url(pattern) else os.path.join(project.folder, pattern)
    return {file: stat_of(file) for file in list_files(_PART.sub("*", whole))}


def find_spans(folder: Path, pattern: str, memo: Generations | None = None) -> list[LandedSpan]:
    """Finds the spans that match `pattern` (from `folder`, absolute, or a URL), oldest first.

    A span is named by its date (`2026-01-31`) when the pattern has {YYYY}, {MM} and {DD}, else by
    its {SPAN}; spans named by whole numbers are ordered as numbers. With `*` a span is all files
    that agree in the rest.

    Args:
        folder: The project folder.
        pattern: The setting `data.spans`.
        memo: Remembers digests, so that what did not change is not read again.

    Raises:
        ProjectError: The pattern names no span, or names one that cannot be ordered.
        DataError: The place cannot be looked into, a file cannot be read, or two files claim to be
            one version.
    """
    pattern = pattern.removeprefix("file://")
    regex = _compile(pattern)
    # An absolute pattern stays as it is, and a relative one as it is written.
    whole = pattern if is_url(pattern) else os.path.join(folder, pattern)
    prefix = whole.removesuffix(pattern)
    files: dict[tuple[str, int | None], dict[str, list[str]]] = {}
    for file in list_files(_PART.sub("*", whole)):
        if match := regex.fullmatch(file.removeprefix(prefix)):
            uri = prefix + _fill(pattern, match)
            files.setdefault(_identity(match), {}).setdefault(uri, []).append(file)
    with Fingerprints(memo) as fingerprints:
        landed = [
            LandedSpan(*identity, uri, fingerprints.of(uri, files[identity][uri]))
            for identity in files
            for uri in [_only(identity, files[identity])]
        ]
    return sorted(landed, key=lambda span: (span_order(span.name), span.version or 0))


def fill_pattern(folder: Path, pattern: str, name: str) -> str:
    """Gives the file that a span of a name lands as.

    Args:
        folder: The project folder.
        pattern: The setting `data.spans`.
        name: Of the span, such as `2026-01-31`.

    Raises:
        ProjectError: The pattern names no span.
        DataError: The name does not fit it, or it names several files, versions or a URL.
    """
    regex = _compile(pattern)
    date = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", name)
    values = {"SPAN": name} | dict(
        zip(("YYYY", "MM", "DD"), date.groups() if date else (), strict=False)
    )
    tokens = {token for token, _, _ in (part.groups() for part in _PART.finditer(pattern))}
    filled = _PART.sub(lambda part: values.get(part[1], part[0]), pattern)
    if is_url(pattern) or not tokens <= values.keys() or not regex.fullmatch(filled):
        raise DataError(
            f"span {name}",
            "must name one local file by the pattern in data.spans",
            pattern,
            "Give a name that fits, or a file with --output, and bring it to where spans land.",
        )
    return os.path.join(folder, filled)


def _identity(match: re.Match[str]) -> tuple[str, int | None]:
    groups = match.groupdict()
    name = groups["SPAN"] if "SPAN" in groups else f"{groups['YYYY']}-{groups['MM']}-{groups['DD']}"
    check_name(name, match.string)
    return name, int(groups["VERSION"]) if "VERSION" in groups else None


def _only(identity: tuple[str, int | None], uris: Iterable[str]) -> str:
    """Gives the one location of a span version."""
    first, *others = sorted(uris)
    if others:
        name, version = identity
        raise DataError(
            f"version {version} of span {name}",
            "must lie in one place",
            f"{first} and {others[0]}",
            "Remove one.",
        )
    return first


def _fill(pattern: str, match: re.Match[str]) -> str:
    """Fills in the tokens of the pattern with the values that a file has; wildcards stay."""
    return _PART.sub(lambda part: part[3] or match[part[1]], pattern)


def _compile(pattern: str) -> re.Pattern[str]:
    parts = [part.groups() for part in _PART.finditer(pattern)]
    tokens = [(name, width) for name, width, wildcard in parts if not wildcard]
    names = [name for name, _ in tokens]
    dated = {"YYYY", "MM", "DD"} <= set(names)
    once = set(names) <= set(_TOKENS) and len(set(names)) == len(names)
    complete = dated != ("SPAN" in names) and (dated or not {"YYYY", "MM", "DD"} & set(names))
    if not (once and complete and all(name in _WITH_WIDTH for name, width in tokens if width)):
        raise ProjectError(
            "project.yaml: data.spans",
            "must name its spans once, by {YYYY}, {MM} and {DD} or by {SPAN}, and may name "
            "their {VERSION} once",
            pattern,
            "For example: data/{YYYY}-{MM}-{DD}.parquet or data/{SPAN}/v{VERSION}/*.csv.gz",
        )
    expression, end = "", 0
    for part in _PART.finditer(pattern):
        expression += re.escape(pattern[end : part.start()]) + _group(*part.groups())
        end = part.end()
    return re.compile(expression + re.escape(pattern[end:]))


def _group(name: str | None, width: str | None, wildcard: str | None) -> str:
    if wildcard:
        return "[^/]*"
    value = rf"\d{{{width}}}" if width else _TOKENS[name or ""]
    return f"(?P<{name}>{value})"
