"""Rows of unlabelled files as raw tf.Examples.

What cannot be used is counted and never stops a run.
"""

from __future__ import annotations

from collections.abc import Iterator

from perennial.data.examples import split_of, text_of, to_example
from perennial.errors import PerennialError, ProjectError
from perennial.project import Project
from perennial.readers.columns import columns_of
from perennial.readers.convert import Conformer
from perennial.readers.read import format_of, read_rows
from perennial.readers.rows import Part, Row
from perennial.schema.environments import serving_features
from perennial.storage.files import find_files
from schemas.project import Format

_TOLD = 3  # reasons that a note shows


class UnlabelledRows:
    """The rows of all files of `data.unlabelled`, as serialised tf.Examples.

    They hold the features that clients send.

    A row whose key belongs to the eval or the test split is left out: it may land there with its
    label, and what is judged by must never be learnt from. Rows without a key stay.

    Attributes:
        notes: What a person should know, once all rows were read.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        labels = {project.settings.label, *(task.label for task in project.tasks)}
        self.features = [name for name in serving_features(project.schema) if name not in labels]
        columns, key = columns_of(project.schema), project.settings.data.key
        read = {*self.features, key}
        data = project.settings.data
        self._conformer = Conformer(
            {n: column for n, column in columns.items() if n in read}, data.max_value_mb
        )
        self._read, self._rows, self._elsewhere, self._refused = read, 0, 0, 0
        self._reasons: list[str] = []
        self._faults: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Gives each row's place, such as `new/a.csv: line 7`, and its example."""
        for uri in self._files():
            try:
                yield from self._read_file(uri)
            except PerennialError as error:  # the rows before the fault are good
                self._faults.append(str(error))

    def refuse(self, place: str, reason: str) -> None:
        """Counts a row that cannot be used."""
        self._refused += 1
        if len(self._reasons) < _TOLD:
            self._reasons.append(f"{place}: {reason}")

    @property
    def notes(self) -> list[str]:
        """Gives what a person should know of the rows that were read so far."""
        notes = list(self._faults)
        if self._refused:
            shown = "; ".join(self._reasons)
            more = "; …" if self._refused > len(self._reasons) else ""
            notes.append(
                f"{self._refused:,} of {self._rows:,} unlabelled rows could not be used: "
                f"{shown}{more}"
            )
        if self._elsewhere:
            notes.append(
                f"{self._elsewhere:,} of {self._rows:,} unlabelled rows were left out, as their "
                "key belongs to the "
                "eval or the test split"
            )
        return notes

    def _files(self) -> list[str]:
        pattern = self._project.settings.data.unlabelled
        if pattern is None:
            self._faults.append(
                "project.yaml sets no data.unlabelled: only the train split was learnt from"
            )
            return []
        try:
            files = find_files(self._project.folder, pattern)
        except PerennialError as error:
            self._faults.append(str(error))
            return []
        if not files:
            self._faults.append(
                f"no file matches {pattern} (data.unlabelled): only the train split was learnt from"
            )
        return files

    def _read_file(self, uri: str) -> Iterator[tuple[str, bytes]]:
        data = self._project.settings.data
        name = uri.removeprefix(f"{self._project.folder}/")
        part = Part(
            uri,
            name,
            _format(uri, data.format),
            missing=tuple(data.missing),
            delimiter=data.delimiter,
        )
        for row in read_rows(part, data.max_value_mb):
            self._rows += 1
            example = self._to_example(row, part.place(row.number))
            if example is not None:
                yield part.place(row.number), example

    def _to_example(self, row: Row, place: str) -> bytes | None:
        if row.reason is not None:
            self.refuse(place, str(row.reason))
            return None
        values, reasons = self._conformer.conform(
            {n: value for n, value in row.values.items() if n in self._read}
        )
        key = self._project.settings.data.key
        wrong = [
            str(reason)
            for reason in reasons
            if key in self.features or f"`{key}`" not in reason.expected
        ]
        if wrong:
            self.refuse(place, wrong[0])
            return None
        if (
            key in values
            and split_of(text_of(values[key]), self._project.settings.data.splits) != "train"
        ):
            self._elsewhere += 1
            return None
        kept = {name: values[name] for name in self.features if name in values}
        return bytes(to_example(kept).SerializeToString(deterministic=True))


def _format(uri: str, setting: Format | None) -> Format:
    """Gives the format of the file's suffix, or else that of the spans.

    The files may come from elsewhere.
    """
    try:
        return format_of(uri, None)
    except ProjectError:
        return format_of(uri, setting)
