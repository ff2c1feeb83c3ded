"""Examples as they lie on disk: tf.Example TFRecords in TFX's layout, `Split-<name>/data_tfrecord-*.gz`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.project import SPLITS, SplitSettings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import tensorflow as tf
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

_PREFIX = "data_tfrecord"
SERVING = "SERVING"


def split_prefix(folder: Path, split: str) -> str:
    """Where a split's files are written: what Beam's TFRecord sink takes as its path prefix."""
    return str(folder / f"Split-{split}" / _PREFIX)


def split_files(folder: Path, *splits: str) -> list[str]:
    """The files of the given splits (all splits, when none is given) anywhere below `folder`, in a fixed order."""
    wanted = splits or SPLITS
    return sorted(str(path) for split in wanted for path in folder.glob(f"**/Split-{split}/{_PREFIX}*"))


def split_of(key: str, splits: SplitSettings) -> str:
    """The split that an example belongs to, by a hash of its key: the same in every span and every run."""
    # 64 bits of SHA-256 give a number from 0 to 1 that is the same on every machine.
    point = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if point < splits.train:
        return "train"
    return "eval" if point < splits.train + splits.eval else "test"


def to_example(row: Mapping[str, Any]) -> tf.train.Example:
    """Converts a row of plain values (or lists of them) to a tf.Example; None becomes a missing feature.

    Raises:
        TypeError: A value is of a type that tf.Example does not hold; the message names the column.
    """
    import tensorflow as tf

    features = {name: _to_feature(name, value) for name, value in row.items() if value is not None}
    return tf.train.Example(features=tf.train.Features(feature=features))


def read_records(files: list[str]) -> Iterator[bytes]:
    """The serialised tf.Examples of gzipped TFRecord files."""
    import tensorflow as tf

    yield from tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()


def decode_records(records: list[bytes]) -> pa.RecordBatch:
    """Decodes serialised tf.Examples without a schema: a column of lists for every feature that occurs."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    return ExamplesToRecordBatchDecoder().DecodeBatch(records)


def to_frame(files: list[str]) -> pd.DataFrame:
    """Reads examples into a table that business rules can be stated on.

    A feature with one value per example is a column of that value. A feature with more (an image) is shown by
    `<name>.length`, `<name>.min`, `<name>.max` and `<name>.mean`. Bytes are decoded as UTF-8.
    """
    import pandas as pd

    records = list(read_records(files))
    if not records:
        return pd.DataFrame()
    batch = decode_records(records)
    columns: dict[str, list[Any]] = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        columns |= _frame_columns(name, values.to_pylist())
    return pd.DataFrame(columns)


def serving_features(schema: Schema) -> list[str]:
    """Names of the features that a client sends: those that the schema has in its SERVING environment."""
    return [feature.name for feature in schema.feature if SERVING not in feature.not_in_environment]


def _to_feature(name: str, value: Any) -> tf.train.Feature:
    import tensorflow as tf

    values = value if isinstance(value, list | tuple) else [value]
    values = [_plain(item) for item in values]
    if not values:
        return tf.train.Feature()  # no values are of no type: the same feature has one in other examples
    if all(isinstance(item, int) for item in values):
        if not all(-(2**63) <= item < 2**63 for item in values):
            raise TypeError(f"column `{name}` must hold whole numbers of 64 bits. Received: {max(values, key=abs)}")
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if all(isinstance(item, int | float) for item in values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if all(isinstance(item, bytes) for item in values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    kinds = ", ".join(sorted({type(item).__name__ for item in values}))
    raise TypeError(f"column `{name}` must hold numbers, text, dates or lists of one of them. Received: {kinds}")


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if hasattr(value, "isoformat"):  # date, time and datetime
        return value.isoformat().encode()
    return int(value) if isinstance(value, bool) else value


def _frame_columns(name: str, lists: list[list[Any] | None]) -> dict[str, list[Any]]:
    if max((len(values) for values in lists if values is not None), default=0) <= 1:
        return {name: [as_text(values[0]) if values else None for values in lists]}
    numbers = [[v for v in values if not isinstance(v, bytes)] if values else [] for values in lists]
    return {
        f"{name}.length": [len(values) if values else 0 for values in lists],
        f"{name}.min": [min(values, default=None) for values in numbers],
        f"{name}.max": [max(values, default=None) for values in numbers],
        f"{name}.mean": [sum(values) / len(values) if values else None for values in numbers],
    }


def as_text(value: Any) -> Any:
    """Bytes decoded as UTF-8, with a mark for what is not; other values as they are."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
