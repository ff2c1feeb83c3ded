"""The log of served requests (`data.serving_log`): rows of the features that clients send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from perennial.errors import NotComparedError, PerennialError
from perennial.readers.columns import Column, columns_of
from perennial.readers.convert import Conformed, Conformer
from perennial.readers.read import format_of, read_rows
from perennial.readers.rows import Part
from perennial.schema.environments import serving_features
from perennial.storage.files import find_files

if TYPE_CHECKING:
    from perennial.project import Project

NEWEST = 50_000
"""The newest files are read until so many requests: at that size noise is below what matters."""
_SEED = 4711


@dataclass(frozen=True)
class ServingLog:
    """Files of the log, the newest first by their names, and the features that clients send."""

    project: Project
    files: tuple[str, ...]
    columns: Mapping[str, Column]

    def rows(self, most: int = NEWEST) -> Iterator[Conformed]:
        """Reads the newest requests; a value that does not fit its feature counts as missing.

        Raises:
            DataError: A file cannot be read.
        """
        return self._conform(islice(self._read(), most))

    def sample(self, most: int) -> list[Conformed]:
        """Draws requests from the newest, in no order; always the same ones of the same files.

        The newest requests alone may be those of one hour, which are not like a day's.

        Raises:
            DataError: A file cannot be read.

        Source: Vitter 1985, "Random Sampling with a Reservoir", algorithm R.
        """
        import random

        draw = random.Random(_SEED)
        kept: list[Mapping[str, Any]] = []
        for number, values in enumerate(islice(self._read(), NEWEST)):
            if number < most:
                kept.append(values)
            elif (place := draw.randrange(number + 1)) < most:
                kept[place] = values
        return list(self._conform(iter(kept)))

    def _read(self) -> Iterator[Mapping[str, Any]]:
        data = self.project.settings.data
        for uri in self.files:
            format = format_of(uri, data.format if "." not in uri else None)
            name = uri.removeprefix(f"{self.project.folder}/")
            missing, delimiter = tuple(data.missing), data.delimiter
            part = Part(uri, name, format, missing=missing, delimiter=delimiter)
            yield from (
                row.values for row in read_rows(part, data.max_value_mb) if row.reason is None
            )

    def _conform(self, rows: Iterator[Mapping[str, Any]]) -> Iterator[Conformed]:
        conformer = Conformer(self.columns, self.project.settings.data.max_value_mb)
        for values in rows:
            yield conformer.conform(
                {name: value for name, value in values.items() if name in self.columns}
            )[0]


def find_log(project: Project) -> ServingLog:
    """Finds the log of served requests.

    Raises:
        NotComparedError: There is none to read; it is no part of the spans and must not stop a run.
    """
    pattern = project.settings.data.serving_log
    if pattern is None:
        raise NotComparedError("no serving log: project.yaml sets no data.serving_log")
    with reading_log():
        files = find_files(project.folder, pattern)
    if not files:
        raise NotComparedError(f"no serving log: no file matches {pattern} (data.serving_log)")
    sent = set(serving_features(project.schema))
    columns = {name: column for name, column in columns_of(project.schema).items() if name in sent}
    return ServingLog(project, tuple(files[::-1]), columns)


@contextmanager
def reading_log() -> Iterator[None]:
    """Turns what goes wrong while the log is read into `NotComparedError`."""
    try:
        yield
    except PerennialError as error:
        raise NotComparedError(f"the serving log cannot be read: {error}") from error


def no_requests(project: Project) -> NotComparedError:
    """Makes the error for a log without requests."""
    pattern = project.settings.data.serving_log
    return NotComparedError(f"no serving log: no requests in {pattern} (data.serving_log)")
