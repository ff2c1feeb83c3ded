"""Files of the prediction log: written once, merged day by day, read without seeing a row twice.

A file never changes. One that is made of others names them in its metadata, so that it replaces
them in the moment in which it appears; they are removed later, when no reader has them in hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import DataError, LostError
from perennial.storage.files import open_bytes
from perennial.storage.objects import ListedObject, Objects, open_objects
from schemas.prediction_log import DATE, FOLDER, KEY, REPLACES

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from perennial.project import Project

PART, DAY = "part", "day"
# So long after a file was replaced a reader may still have it in hand; and so long after a day's
# end its last rows are waited for.
GRACE = timedelta(hours=1)
_NAME = re.compile(rf"{FOLDER}/{DATE}=(\d{{4}}-\d\d-\d\d)/({PART}|{DAY})-[^/]+\.parquet")
_ATTEMPTS = 3
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class LogFile:
    """A file of the log: its name among the objects of the root, its day, bytes and time."""

    name: str
    day: date
    merged: bool
    size: int
    written: datetime


@dataclass(frozen=True)
class Listing:
    """The files of the log at one moment.

    `current` hold every row once, in the order of their names; `replaced` hold rows that a current
    one holds, too, by the name of that one.
    """

    current: list[LogFile]
    replaced: dict[str, list[LogFile]]


class LogFiles:
    """The prediction log in a root.

    Args:
        root: Folder or URL, as `Project.root` gives it.
    """

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._objects: Objects = open_objects(self._root)

    @classmethod
    def of_project(cls, project: Project) -> LogFiles:
        """Gives the log of a project."""
        return cls(project.root)

    @property
    def location(self) -> str:
        """Gives the folder of the log, as messages show it."""
        return f"{self._objects.location}/{FOLDER}"

    def uri(self, file: LogFile) -> str:
        """Gives the path or URL of a file."""
        return f"{self._root}/{file.name}"

    def write(self, table: pa.Table, day: date, name: str, replaces: Iterable[str] = ()) -> bool:
        """Writes rows of one day as a file that appears whole; tells whether it was not there.

        Args:
            table: The rows.
            day: Whose they are.
            name: Of the file, in its day's folder.
            replaces: Names of the files whose rows it holds, among the objects of the root.

        Raises:
            OSError: The root is a folder that does not take it.
            StoreError: The root is on a server that does not take it.
        """

        def write(path: Path) -> None:
            import pyarrow.parquet as pq

            pq.write_table(_with_replaced(table, replaces), path, compression="zstd")

        return self._objects.write_file_once(f"{folder_of(day)}/{name}", write)

    def listing(self, since: date | None = None, until: date | None = None) -> Listing:
        """Lists the files of the days from `since` to `until`, both included; None: of all days.

        Raises:
            StoreError: The root cannot be read.
        """
        days: dict[date, list[LogFile]] = {}
        for file in self._find(since, until):
            days.setdefault(file.day, []).append(file)
        current: list[LogFile] = []
        replaced: dict[str, list[LogFile]] = {}
        for _, files in sorted(days.items()):
            # A file alone replaces nothing that is still there.
            contents = {
                file.name: self._replaced_by(file) for file in files if file.merged and files[1:]
            }
            ours, theirs = choose_current(files, contents)
            current += ours
            replaced |= theirs
        return Listing(sorted(current, key=lambda file: file.name), replaced)

    def read(
        self,
        since: date | None,
        columns: Callable[[str], bool],
        until: date | None = None,
    ) -> Iterator[pa.Table]:
        """Reads some columns of all rows of some days, a table for each file.

        Args:
            since: The first day; None: from the beginning.
            columns: Tells of a column's name whether it is wanted.
            until: The last day; None: to the end.

        Raises:
            DataError: A file cannot be read.
            StoreError: The root cannot be read.
        """
        for attempt in range(_ATTEMPTS):
            files = self.listing(since, until).current
            try:
                # What a file that vanished held is in another one: all are opened before the first
                # row is given.
                tables = [self._read_columns(file, columns) for file in files]
            except (DataError, LostError):
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            yield from tables
            return

    def merge(self, today: date, now: datetime) -> int:
        """Merges the files of each day that has ended into one; gives how many files were replaced.

        Files are merged that have the same columns, so a day may keep several.

        Raises:
            OSError: The root is a folder that does not take the merged file.
            StoreError: The root cannot be read or written.
        """
        listing = self.listing(until=today - timedelta(days=1))
        count = 0
        for day in sorted({file.day for file in listing.current}):
            ended = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
            files = [file for file in listing.current if file.day == day]
            if now - ended < GRACE or len(files) < 2:
                continue
            for alike in self._by_columns(files):
                count += self._merge(day, alike)
        return count

    def remove_replaced(self, now: datetime) -> int:
        """Removes files whose rows another file has held for long; gives how many.

        Raises:
            StoreError: The root cannot be read, or lets nothing be removed.
        """
        listing = self.listing()
        written = {file.name: file.written for file in listing.current}
        count = 0
        for name, files in listing.replaced.items():
            if now - written[name] < GRACE:
                continue
            for file in files:
                self._objects.delete(file.name)
                count += 1
        return count

    def older_than(self, day: date) -> list[LogFile]:
        """Lists the files of all days before one.

        Raises:
            StoreError: The root cannot be read.
        """
        return list(self._find(None, day - timedelta(days=1)))

    def remove(self, files: Iterable[LogFile]) -> None:
        """Removes files.

        Raises:
            StoreError: The root lets nothing be removed.
        """
        for file in files:
            self._objects.delete(file.name)

    def remove_key(self, key: str) -> int:
        """Removes the rows of a key, by writing the files that hold some anew; gives how many.

        Raises:
            DataError: A file cannot be read.
            OSError: The root is a folder that does not take the new file.
            StoreError: The root cannot be read or written.
        """
        import pyarrow.compute as pc

        listing = self.listing()
        gone = 0
        for file in listing.current:
            keys = self._read_columns(file, lambda name: name == KEY)[KEY]
            others = pc.fill_null(pc.not_equal(keys, key), True)
            if pc.all(others).as_py():
                continue
            table = self._read_columns(file, lambda _: True)
            kept = table.filter(others)
            gone += table.num_rows - kept.num_rows
            if kept.num_rows:
                replaces = [file.name, *self._replaced_by(file)]
                self.write(kept, file.day, _name_of(DAY, replaces), replaces)
            self._objects.delete(file.name)
        # They may hold rows of the same key; whoever reads them now reads the others again.
        self.remove(file for files in listing.replaced.values() for file in files)
        return gone

    def _find(self, since: date | None, until: date | None) -> Iterator[LogFile]:
        for listed in self._objects.list(FOLDER):
            file = _parse(listed)
            if file is None or (since is not None and file.day < since):
                continue
            if until is None or file.day <= until:
                yield file

    def _read_columns(self, file: LogFile, columns: Callable[[str], bool]) -> pa.Table:
        with self._open(file) as parquet:
            wanted = [name for name in parquet.schema_arrow.names if columns(name)]
            return parquet.read(columns=wanted)

    def _replaced_by(self, file: LogFile) -> frozenset[str]:
        if not file.merged:
            return frozenset()
        with self._open(file) as parquet:
            metadata = parquet.schema_arrow.metadata or {}
        return frozenset(json.loads(metadata.get(REPLACES, b"[]")))

    def _by_columns(self, files: Sequence[LogFile]) -> Iterator[list[LogFile]]:
        """Groups files by their columns; of one alone there is nothing to merge."""
        groups: dict[str, list[LogFile]] = {}
        for file in files:
            with self._open(file) as parquet:
                columns = str(parquet.schema_arrow.remove_metadata())
            groups.setdefault(columns, []).append(file)
        yield from (group for group in groups.values() if len(group) > 1)

    def _merge(self, day: date, files: list[LogFile]) -> int:
        """Writes the rows of several files into one, which replaces them and what they replace."""
        names = {file.name for file in files}
        for file in files:
            names |= self._replaced_by(file)

        def write(path: Path) -> None:
            import pyarrow.parquet as pq

            with self._open(files[0]) as first:
                schema = first.schema_arrow
            schema = schema.with_metadata({REPLACES: json.dumps(sorted(names)).encode()})
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for file in files:
                    with self._open(file) as parquet:
                        for batch in parquet.iter_batches(_ROWS_AT_ONCE):
                            writer.write_batch(batch)
            # One that was rewritten meanwhile, without a person's rows, must not come back.
            there = {file.name for file in self._find(day, day)}
            if not {file.name for file in files} <= there:
                raise FileNotFoundError(f"{folder_of(day)}: a file that is merged was replaced")

        try:
            self._objects.write_file_once(f"{folder_of(day)}/{_name_of(DAY, names)}", write)
        except (FileNotFoundError, DataError):
            return 0
        return len(files)

    def _open(self, file: LogFile) -> _OpenParquet:
        return _OpenParquet(self.uri(file))


class _OpenParquet:
    """Opens a Parquet file on any file system, until the end of the block."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._opened = open_bytes(self._uri)
        stream = self._opened.__enter__()
        try:
            return pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            self._opened.__exit__(None, None, None)
            raise DataError(
                self._uri, "must be a whole Parquet file", error, "Remove it: its rows are lost."
            ) from error

    def __exit__(self, *_: object) -> None:
        self._opened.__exit__(None, None, None)


def choose_current(
    files: Sequence[LogFile], contents: dict[str, frozenset[str]]
) -> tuple[list[LogFile], dict[str, list[LogFile]]]:
    """Chooses the files of a day that together hold every row once.

    Where two processes merged the same files, the file that replaces most goes first, and one that
    replaces some of the same files is left out; what only that one replaced stays.

    Args:
        files: All files of the day.
        contents: Name of each merged file -> names of the files that it replaces.

    Returns:
        The current files, and those that each of them replaces, by its name.
    """
    chosen: list[LogFile] = []
    covered: dict[str, str] = {}
    replaced: dict[str, list[LogFile]] = {}
    merged = [file for file in files if contents.get(file.name)]
    for file in sorted(merged, key=lambda file: (-len(contents[file.name]), file.name)):
        overlapping = next((covered[n] for n in contents[file.name] if n in covered), None)
        other = covered.get(file.name, overlapping)
        if other is not None:
            replaced.setdefault(other, []).append(file)
            continue
        chosen.append(file)
        covered.update(dict.fromkeys(contents[file.name], file.name))
    for file in files:
        if contents.get(file.name):
            continue
        if file.name in covered:
            replaced.setdefault(covered[file.name], []).append(file)
        else:
            chosen.append(file)
    return chosen, replaced


def folder_of(day: date) -> str:
    """Gives the folder of a day, among the objects of the root."""
    return f"{FOLDER}/{DATE}={day.isoformat()}"


def part_name(at: datetime, writer: str, number: int) -> str:
    """Names a file that a writer makes: in the order of time, and unlike any other's."""
    return f"{PART}-{at:%H%M%S}-{writer}-{number:06d}.parquet"


def _name_of(kind: str, names: Iterable[str]) -> str:
    """Names a file after those that it replaces: whoever makes it again makes the same."""
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    return f"{kind}-{digest[:24]}.parquet"


def _with_replaced(table: pa.Table, replaces: Iterable[str]) -> pa.Table:
    names = sorted(replaces)
    return table.replace_schema_metadata({REPLACES: json.dumps(names).encode()} if names else None)


def _parse(listed: ListedObject) -> LogFile | None:
    match = _NAME.fullmatch(listed.name)
    if match is None:
        return None
    day, kind = date.fromisoformat(match[1]), match[2]
    return LogFile(listed.name, day, kind == DAY, listed.size, listed.written)
