"""Accumulators of TensorFlow Transform's analyzers, kept in the root for each span.

They are a result like that of a step (`SPAN_STEP`), by the digest of the span's examples and the
fingerprint of the analysis: one archive with a gzipped TFRecord for each accumulator.

TensorFlow Transform can keep them too, but in a folder that is changed in place and whose index is
a pickle. Here a result is published whole and never changed, and names its archive by its digest.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.data.examples import read_records
from perennial.errors import IntegrityError, LostError
from perennial.results.store import SPAN_STEP, Results, reference_to
from perennial.storage.digests import digest_value

_OUTPUT, _ARCHIVE = "entries", "entries.zip"


@dataclass(frozen=True)
class AnalyzerCache:
    """The accumulators for one analysis. Several runs may read and publish at once.

    Args:
        results: The results in the root.
        fingerprint: That of the analysis.
        scratch: Folder of this machine for what is found.
    """

    results: Results
    fingerprint: str
    scratch: Path

    def find_all(
        self, contents: Sequence[str], keys: Sequence[bytes]
    ) -> list[dict[bytes, Path] | None]:
        """Finds the files of each span's entries by key; None when they are missing or damaged.

        Raises:
            StoreError: The root cannot be read.
        """
        distinct = list(dict.fromkeys(contents))
        found = self.results.in_parallel(lambda content: self._find(content, keys), distinct)
        by_content = dict(zip(distinct, found, strict=True))
        return [by_content[content] for content in contents]

    def publish(self, span: str, content: str, keys: Sequence[bytes], written: Path) -> None:
        """Keeps the files that `write_entries` left for a span, of this name and these examples.

        Raises:
            StoreError: The root cannot be written.
        """
        folder = self.scratch / "packed" / content
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / _ARCHIVE, "w") as archive:
            for key in keys:
                name = _file_name(key)
                if not (written / name).exists():  # nothing was accumulated: no words, say
                    written.mkdir(parents=True, exist_ok=True)
                    _write_records(written / name, [])
                with (
                    (written / name).open("rb") as source,
                    archive.open(zipfile.ZipInfo(name), "w") as target,
                ):
                    shutil.copyfileobj(source, target)
        self.results.publish(SPAN_STEP, self._key(content), {_OUTPUT: folder}, {}, {"span": span})

    def _find(self, content: str, keys: Sequence[bytes]) -> dict[bytes, Path] | None:
        result = self.results.find(SPAN_STEP, self._key(content))
        if result is None:
            return None
        packed, folder = self.scratch / "found" / content, self.scratch / "entries-of" / content
        try:
            self.results.stage(reference_to(result, _OUTPUT), packed)
            with zipfile.ZipFile(packed / _ARCHIVE) as archive:
                archive.extractall(folder)  # checks what it reads
        except LostError:
            return None
        except zipfile.BadZipFile:
            self.results.discard(result)
            return None
        files = {key: folder / _file_name(key) for key in keys}
        return files if all(file.exists() for file in files.values()) else None

    def _key(self, content: str) -> str:
        return digest_value([content, self.fingerprint])


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
                where=f"results/{SPAN_STEP} in the root",
                expected="must hold numbers, text and sketches of them",
                received=f"{module}.{name}",
                remedy="Delete that folder: it is made again.",
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
