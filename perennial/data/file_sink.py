"""Beam transforms that write files on the workers, and tell the step which there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from perennial.data.example_encoder import to_tfrecords
from perennial.data.worker_files import Handover, compressed
from schemas.records import HandedFile, HandedFiles


class FileSink(beam.PTransform[Any, Any]):
    """Writes one file for each bundle, and gives a `HandedFile` for each.

    Elements are written whole and in their order. A bundle that is tried again writes another file,
    and the one before is told of nowhere.

    Args:
        handover: Where the files go.
        output: Names what they are parts of.
        encode: Makes the bytes of an element.
        lasts: Whether they are compressed data files, which the step's result names.

    Attributes:
        writer: What writes them.
    """

    def __init__(
        self,
        handover: Handover,
        output: str,
        encode: Callable[[Any], bytes],
        lasts: bool = False,
    ) -> None:
        super().__init__()
        self.writer = _WriteBundle(handover, output, encode, lasts)

    def expand(self, elements: Any) -> Any:
        """Adds the transform to the pipeline of some elements."""
        return elements | "Bundles" >> beam.ParDo(self.writer)


def example_sink(handover: Handover, output: str) -> FileSink:
    """Makes the sink of lists of serialised examples: gzipped TFRecord files, which last."""
    return FileSink(handover, output, to_tfrecords, lasts=True)


def line_sink(handover: Handover, output: str) -> FileSink:
    """Makes the sink of lines of text, for the step alone."""
    return FileSink(handover, output, _to_line)


def tell_files(handover: Handover, files: Sequence[Any]) -> None:
    """Ends a pipeline by telling the step which files its sinks wrote."""
    _ = (
        files
        | "All files" >> beam.Flatten()
        | "List files" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
        | "Tell files" >> beam.Map(_tell, handover)
    )


class _WriteBundle(beam.DoFn):
    def __init__(
        self, handover: Handover, output: str, encode: Callable[[Any], bytes], lasts: bool
    ) -> None:
        self._handover, self._output, self._encode, self._lasts = handover, output, encode, lasts
        self._path: str | None = None

    def start_bundle(self) -> None:
        """Forgets the file of a bundle that failed."""
        self._remove()

    def process(self, element: Any) -> None:
        """Writes an element."""
        if self._path is None:
            handle, self._path = self._handover.open_file()
            self._file: IO[bytes] = os.fdopen(handle, "wb")
            self._stream = compressed(self._file) if self._lasts else self._file
        self._stream.write(self._encode(element))

    def finish_bundle(self) -> Iterator[Any]:
        """Hands the file over."""
        if self._path is None:
            return
        self._stream.close()
        self._file.close()
        kept = self._handover.keep(self._path, self._output, self._lasts)
        self._path = None
        yield WindowedValue(kept, 0, (GlobalWindow(),))

    def teardown(self) -> None:
        """Removes the file of a bundle that failed."""
        self._remove()

    def _remove(self) -> None:
        if self._path is not None:
            self._file.close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = None


def _to_line(text: str) -> bytes:
    return f"{text}\n".encode()


def _tell(files: list[HandedFile], handover: Handover) -> None:
    record = HandedFiles(files=files)
    handover.give(HandedFiles.FILE, record.model_dump_json().encode())
