"""Examples on disk: tf.Example TFRecords in TFX's layout, `Split-<name>/data_tfrecord-*.gz`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from perennial.data.worker_files import RootFile, Source
from perennial.readers.rows import Value
from schemas.project import SPLITS, SplitSettings
from schemas.records import LeftInRoot

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import tensorflow as tf
    from numpy.typing import NDArray
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

BATCH_ROWS = 8192
_PREFIX = "data_tfrecord"
_KINDS = {int: "int64_list", bool: "int64_list", float: "float_list", bytes: "bytes_list"}


def split_prefix(folder: Path, split: str) -> str:
    """Gives the path prefix of a split's files for Beam's TFRecord sink."""
    return str(folder / f"Split-{split}" / _PREFIX)


def are_examples(path: str) -> bool:
    """Tells by its path in a folder whether a file holds examples."""
    return PurePosixPath(path).name.startswith(_PREFIX)


def split_files(folder: Path, *splits: str) -> list[str]:
    """Lists the files of the given splits (default: all) below `folder`, in a fixed order."""
    chosen = splits or SPLITS
    return sorted(
        str(path) for split in chosen for path in folder.glob(f"**/Split-{split}/{_PREFIX}*")
    )


def split_sources(folder: Path, *splits: str, root: str | None) -> list[Source]:
    """Lists the same files for Beam's workers, with those that lie in the root alone.

    Args:
        folder: Folder that a step made, or several of them.
        splits: Names of splits; default: all.
        root: The root where the workers are on other machines; None: they are on this one, and so
            are the files.
    """
    files: list[Source] = [*split_files(folder, *splits)]
    if root is None:
        return files
    assert not files, f"{files[0]} is a file of this machine, which the workers do not reach"
    return [
        RootFile(root, file.digest)
        for split in splits or SPLITS
        for record in sorted(folder.glob(f"**/Split-{split}/{LeftInRoot.FILE}"))
        for file in LeftInRoot.read(record.parent).files
    ]


def split_of(key: str, splits: SplitSettings) -> str:
    """Chooses an example's split by a hash of its key: the same in every span and run.

    Where the splits are by time, a whole span becomes the test split later; until then its examples
    are shared between train and eval.
    """
    # 64 bits of SHA-256 give a number from 0 to 1 that is the same on every machine.
    point = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if splits.by == "time":
        return "train" if point < splits.train / (splits.train + splits.eval) else "eval"
    if point < splits.train:
        return "train"
    return "eval" if point < splits.train + splits.eval else "test"


def splits_of(keys: Sequence[bytes], splits: SplitSettings) -> NDArray[np.intp]:
    """Chooses the splits of many keys as `split_of` does: places in `SPLITS`, int64 [keys]."""
    import numpy as np

    digests = b"".join([hashlib.sha256(key).digest()[:8] for key in keys])
    points = np.frombuffer(digests, ">u8").astype(np.float64) / 2**64
    if splits.by == "time":
        return np.searchsorted([splits.train / (splits.train + splits.eval)], points, side="right")
    return np.searchsorted([splits.train, splits.train + splits.eval], points, side="right")


def text_of(value: Value) -> str:
    """Gives a key or label as text, the same whatever format it came in."""
    if isinstance(value, list):
        value = value[0]
    return (
        value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)
    )


def to_example(row: Mapping[str, Any]) -> tf.train.Example:
    """Makes a tf.Example of values or lists of one kind; None is a missing feature."""
    import tensorflow as tf

    example = tf.train.Example()
    features = example.features.feature
    for name, value in row.items():
        if value is None:
            continue
        items = value if isinstance(value, list) else [value]
        feature = features[name]
        if items:  # no values are of no kind: the same feature has one in other examples
            plain = [item.encode() for item in items] if isinstance(items[0], str) else items
            getattr(feature, _KINDS[type(plain[0])]).value.extend(plain)
    return example


def read_records(files: list[str]) -> Iterator[bytes]:
    """Reads the serialised tf.Examples of gzipped TFRecord files."""
    import tensorflow as tf

    # One by one, most of the time would go into crossing from TensorFlow to Python.
    for batch in (
        tf.data.TFRecordDataset(files, compression_type="GZIP").batch(64).as_numpy_iterator()
    ):
        yield from batch


def decode_records(records: list[bytes], schema: Schema | None = None) -> pa.RecordBatch:
    """Decodes serialised tf.Examples: a column of lists for every feature.

    Those of the schema, and no other is decoded; without one, those that occur.
    """
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    serialised = schema.SerializeToString() if schema is not None else None
    return ExamplesToRecordBatchDecoder(serialised).DecodeBatch(records)


def read_batches(
    files: list[str], rows: int = BATCH_ROWS, schema: Schema | None = None
) -> Iterator[pa.RecordBatch]:
    """Reads examples as record batches of so many rows, as `decode_records` gives them."""
    import tensorflow as tf

    if not files:
        return
    for batch in (
        tf.data.TFRecordDataset(files, compression_type="GZIP").batch(rows).as_numpy_iterator()
    ):
        yield decode_records(list(batch), schema)


def as_text(value: Any) -> Any:
    """Decodes bytes as UTF-8, with a mark for what is not; leaves other values as they are."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
