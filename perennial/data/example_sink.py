"""Writes batches of examples as compressed TFRecord files in Beam."""

from __future__ import annotations

import gzip
from typing import Any

from apache_beam.coders import BytesCoder
from apache_beam.io.filebasedsink import FileBasedSink
from apache_beam.io.filesystem import CompressionTypes

from perennial.data.example_encoder import to_tfrecords

LEVEL = 1  # a third of the time of gzip's own choice (6), and files that are a quarter larger


class TFRecordBatchSink(FileBasedSink):
    """Writes every element, a list of serialised examples, to `<prefix>-SSSSS-of-NNNNN.gz`.

    Beam's own sink takes one record at a time, and pays its way through the pipeline for each.
    """

    def __init__(self, prefix: str) -> None:
        # The files are compressed here: Beam would ask for another level.
        plain = CompressionTypes.UNCOMPRESSED
        super().__init__(  # type: ignore[no-untyped-call]
            prefix, coder=BytesCoder(), file_name_suffix=".gz", compression_type=plain
        )

    def open(self, temp_path: str) -> Any:
        """Opens the file and the stream that compresses into it."""
        file = super().open(temp_path)
        return file, gzip.GzipFile(
            filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0
        )

    def write_record(self, file_handle: Any, value: list[bytes]) -> None:
        """Writes a batch."""
        file_handle[1].write(to_tfrecords(value))

    def close(self, file_handle: Any) -> None:
        """Closes the compressed stream, then the file."""
        if file_handle is not None:
            for stream in reversed(file_handle):
                stream.close()
