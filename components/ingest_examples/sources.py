"""The parts that a span is read in, and what is known of them before they are read."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from perennial.errors import BrokenFileError, DataError
from perennial.project import Project
from perennial.readers.read import format_of, read_columns, split_file
from perennial.readers.rows import Part
from perennial.storage.files import expand, shown_uri
from perennial.storage.fingerprints import fingerprint
from schemas.records import Span


@dataclass(frozen=True)
class Source:
    """A span that is about to be read.

    Attributes:
        name: What messages call the whole of it.
        parts: Read one by one or side by side.
        columns: In the order of the first file; None where only the rows tell.
    """

    name: str
    parts: list[Part]
    columns: list[str] | None


def open_source(project: Project, span: Span, features: Collection[str]) -> Source:
    """Looks at the files of a span; of rows of a table there are none.

    The columns by which a table tells its spans and versions are left out unless they are
    `features` of the schema.

    Raises:
        BrokenFileError: A file is empty or broken, has no key or no label, or has other columns
            than the first.
        DataError: A file is not there or cannot be read.
        ProjectError: The format of a file is not known.
    """
    data = project.settings.data
    name = _shown(span.uri, project.folder)
    if data.table is not None:
        told_by = (data.table.span, data.table.version)
        without = tuple(
            column for column in told_by if column is not None and column not in features
        )
        part = Part(
            "",
            name,
            "table",
            table=data.table,
            span=span.name,
            fingerprint=span.fingerprint,
            without=without,
            missing=tuple(data.missing),
        )
        return Source(name, [part], None)
    files = [
        Part(
            uri,
            _shown(uri, project.folder),
            format_of(uri, data.format),
            missing=tuple(data.missing),
            delimiter=data.delimiter,
        )
        for uri in expand(span.uri)
    ]
    columns = [read_columns(part, data.max_value_mb) for part in files]
    _check_alike(files, columns)
    if columns[0] is not None:
        check_has_columns(project, columns[0], files[0].name)
    return Source(name, [part for file in files for part in split_file(file)], columns[0])


def check_has_columns(project: Project, columns: list[str], name: str) -> None:
    """Checks that the columns that every example needs are there.

    Raises:
        BrokenFileError: The key or the label is missing.
    """
    for setting, column in (
        ("data.key", project.settings.data.key),
        ("label", project.settings.label),
    ):
        if column not in columns:
            shown = ", ".join(columns[:40]) or "no columns"
            raise BrokenFileError(name, f"must have the column `{column}` ({setting})", shown)


def check_unchanged(project: Project, span: Span) -> None:
    """Checks that the files still have the bytes that the run selected.

    Raises:
        DataError: They changed, or are gone.
    """
    if project.settings.data.table is None and fingerprint(span.uri) != span.fingerprint:
        where, remedy = _shown(span.uri, project.folder), "Land it whole, then run again."
        raise DataError(where, "must not change while it is read", "other bytes", remedy)


def _check_alike(files: list[Part], columns: list[list[str] | None]) -> None:
    first = columns[0]
    for file, header in zip(files, columns, strict=True):
        if first is not None and header is not None and set(header) != set(first):
            lacking = [name for name in first if name not in header]
            more = [name for name in header if name not in first]
            received = " and ".join(
                f"{words} {', '.join(names)}"
                for words, names in (("no", lacking), ("also", more))
                if names
            )
            raise BrokenFileError(file.name, f"must have the columns of {files[0].name}", received)


def _shown(uri: str, folder: Path) -> str:
    """Gives a path relative to the project folder, if it lies in there."""
    path = uri.removeprefix("file://")
    inside = os.path.isabs(path) and Path(path).is_relative_to(folder)
    return Path(path).relative_to(folder).as_posix() if inside else shown_uri(path)
