"""Accumulators of TensorFlow Transform's analyzers, kept for each span by its digest.

    <root>/<content of the span>/<fingerprint of the analysis>/entries.json, 0.gz, 1.gz, ...

TensorFlow Transform can keep them too, but in a folder that is changed in place and whose index is
a pickle. Here a folder is published whole and never changed, and its index is JSON with the digest
of each file.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from perennial.data.examples import read_records
from perennial.errors import IntegrityError
from perennial.storage.atomic import publish_folder, publish_text
from perennial.storage.digests import digest_file
from schemas.records import Record

INDEX_FILE = "entries.json"
UNUSED_SECONDS = 30 * 24 * 3600
_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS)


class Entry(Record):
    """The entry of one analyzer for a span: TensorFlow Transform's key in hexadecimal, and file."""

    key: str
    file: str
    sha256: str


class Index(Record):
    """All entries of one span for one analysis."""

    entries: list[Entry]


@dataclass(frozen=True)
class AnalyzerCache:
    """The entries for one analysis. Several runs may read and publish at once."""

    root: Path
    fingerprint: str

    def find(self, content: str, keys: Sequence[bytes]) -> dict[bytes, Path] | None:
        """Finds the files of a span's entries by key; None when one is missing or damaged."""
        folder = self._folder(content)
        try:
            index = Index.model_validate_json((folder / INDEX_FILE).read_text(encoding="utf-8"))
            whole = all(digest_file(folder / entry.file) == entry.sha256 for entry in index.entries)
        except (OSError, ValueError, ValidationError):
            return None
        files = {bytes.fromhex(entry.key): folder / entry.file for entry in index.entries}
        return {key: files[key] for key in keys} if whole and set(keys) <= set(files) else None

    def publish(self, content: str, keys: Sequence[bytes], written: Path) -> None:
        """Keeps the files that `write_entries` left for a span.

        A state folder that cannot be written to keeps nothing, and the next run reads the span
        again.
        """
        try:
            shutil.rmtree(
                self._folder(content), ignore_errors=True
            )  # it is damaged, or it would have been found
            written.mkdir(parents=True, exist_ok=True)
            entries = [_entry(written, key) for key in keys]
            publish_text(Index(entries=entries).model_dump_json(indent=2), written / INDEX_FILE)
            publish_folder(written, self._folder(content))
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise

    def prune(self, used: set[str]) -> None:
        """Removes what no run used for 30 days; `used` are the contents of this run's window."""
        oldest = time.time() - UNUSED_SECONDS
        for content in used:
            _touch(self._folder(content))
        for folder in self.root.glob("*/*"):
            if _modified(folder) < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self.root.glob("*"):
            if folder.is_dir() and not any(folder.iterdir()) and _modified(folder) < oldest:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, content: str) -> Path:
        return self.root / content / self.fingerprint


def read_entries(pipeline: Any, entries: Mapping[bytes, Sequence[Path]]) -> dict[bytes, Any]:
    """Reads the encoded accumulators of all files of each key, as a PCollection by key."""
    import apache_beam as beam

    return {
        key: pipeline
        | f"Entry files[{number}]"
        >> beam.Create([[str(file) for file in files]]).with_output_types(list[str])
        | f"Read entries[{number}]" >> beam.FlatMap(_read_entries).with_output_types(bytes)
        for number, (key, files) in enumerate(entries.items())
    }


def write_entries(
    pipeline: Any, accumulated: Mapping[str, Mapping[bytes, Any]], folder: Path
) -> None:
    """Writes `folder/<dataset>/<key in hexadecimal>`, a gzipped TFRecord of encoded accumulators.

    One transform writes them all, so that the pipeline stays small however many spans are new.
    """
    import apache_beam as beam

    named = [
        records
        | f"Name[{dataset}][{number}]"
        >> beam.Map(_named(dataset, key)).with_output_types(tuple[str, bytes])
        for dataset, entries in accumulated.items()
        for number, (key, records) in enumerate(entries.items())
    ]
    if named:
        (
            named
            | "All entries" >> beam.Flatten(pipeline=pipeline)
            | "By file" >> beam.GroupByKey()
            | "Write entries" >> beam.Map(_write_entry, str(folder))
        )


def _named(dataset: str, key: bytes) -> Any:
    name = f"{dataset}/{_file_name(key)}"
    return lambda record: (name, record)


def _file_name(key: bytes) -> str:
    """Names an entry's file: keys can be longer than a file name may be."""
    return f"{hashlib.sha256(key).hexdigest()[:32]}.gz"


def _write_entry(item: tuple[str, Sequence[bytes]], folder: str) -> None:
    path = Path(folder, item[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_records(path, item[1])


def _write_records(path: Path, records: Sequence[bytes]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)


def _entry(folder: Path, key: bytes) -> Entry:
    path = folder / _file_name(key)
    if not path.exists():  # nothing was accumulated, such as a vocabulary of no words
        _write_records(path, [])
    return Entry(key=key.hex(), file=path.name, sha256=digest_file(path))


def _read_entries(files: list[str]) -> Iterator[bytes]:
    for record in read_records(files):
        _require_harmless(record)
        yield record


class _SketchUnpickler(pickle.Unpickler):
    """Finds the one class that TensorFlow Transform pickles: the sketch of quantiles."""

    def find_class(self, module: str, name: str) -> Any:
        """Gives the class of the sketch, and no other.

        Raises:
            IntegrityError: The pickle asks for something else.
        """
        if (module, name) != ("tfx_bsl.cc.tfx_bsl_extension.sketches", "QuantilesSketch"):
            raise IntegrityError(
                where="analyzer_cache in the state folder",
                expected="must hold numbers, text and sketches of them",
                received=f"{module}.{name}",
                remedy="Delete the folder: it is made again.",
            )
        return super().find_class(module, name)


def _require_harmless(record: bytes) -> None:
    """Checks what TensorFlow Transform will unpickle.

    Accumulators of quantiles may name nothing but their sketch.

    Raises:
        IntegrityError: Unpickling the record would import something else.
    """
    try:
        _SketchUnpickler(io.BytesIO(record)).load()
    except IntegrityError:
        raise
    except Exception:  # no pickle: numbers or text, which nothing unpickles
        return


def _touch(folder: Path) -> None:
    with suppress(
        OSError
    ):  # nothing was kept for this span, or the state folder cannot be written to
        os.utime(folder)


def _modified(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # another run removed it
        return time.time()
