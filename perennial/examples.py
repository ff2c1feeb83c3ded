"""Examples as they lie on disk: tf.Example TFRecords in TFX's layout, `Split-<name>/data_tfrecord-*.gz`."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.project import SPLITS, SplitSettings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import tensorflow as tf
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

Value = int | float | bytes | list[int] | list[float] | list[bytes]
"""What a feature of one example holds."""

_PREFIX = "data_tfrecord"
_KINDS = {int: "int64_list", bool: "int64_list", float: "float_list", bytes: "bytes_list"}
SERVING = "SERVING"


def split_prefix(folder: Path, split: str) -> str:
    """Where a split's files are written: what Beam's TFRecord sink takes as its path prefix."""
    return str(folder / f"Split-{split}" / _PREFIX)


def split_files(folder: Path, *splits: str) -> list[str]:
    """The files of the given splits (all splits, when none is given) anywhere below `folder`, in a fixed order."""
    wanted = splits or SPLITS
    return sorted(str(path) for split in wanted for path in folder.glob(f"**/Split-{split}/{_PREFIX}*"))


def split_of(key: str, splits: SplitSettings) -> str:
    """The split that an example belongs to, by a hash of its key: the same in every span and every run.

    Where the splits are by time, a whole span becomes the test split later; until then its examples are shared
    between train and eval.
    """
    # 64 bits of SHA-256 give a number from 0 to 1 that is the same on every machine.
    point = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if splits.by == "time":
        return "train" if point < splits.train / (splits.train + splits.eval) else "eval"
    if point < splits.train:
        return "train"
    return "eval" if point < splits.train + splits.eval else "test"


def text_of(value: Value) -> str:
    """A key or label as text, the same whatever format it came in."""
    if isinstance(value, list):
        value = value[0]
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)


def to_example(row: Mapping[str, Any]) -> tf.train.Example:
    """Makes a tf.Example of plain values (int, float, bytes, text) or lists of one kind; None is a missing feature."""
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
    """The serialised tf.Examples of gzipped TFRecord files."""
    import tensorflow as tf

    # One by one, most of the time would go into crossing from TensorFlow to Python.
    for batch in tf.data.TFRecordDataset(files, compression_type="GZIP").batch(64).as_numpy_iterator():
        yield from batch


def decode_records(records: list[bytes]) -> pa.RecordBatch:
    """Decodes serialised tf.Examples without a schema: a column of lists for every feature that occurs."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    return ExamplesToRecordBatchDecoder().DecodeBatch(records)


def to_frame(files: list[str], without: Container[int] = ()) -> pd.DataFrame:
    """Reads examples into a table that business rules can be stated on; row i is the i-th record of the files.

    Records whose position is in `without` are left out, and the rows are counted without them. A feature with one value
    per example is a column of that value. A feature with more (an image) is shown by `<name>.length`, `<name>.min`,
    `<name>.max` and `<name>.mean`. Bytes are decoded as UTF-8.
    """
    import pandas as pd

    records = [record for place, record in enumerate(read_records(files)) if place not in without] if files else []
    if not records:
        return pd.DataFrame()
    batch = decode_records(records)
    columns: dict[str, list[Any]] = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        columns |= _frame_columns(name, values.to_pylist())
    return pd.DataFrame(columns)


def serving_features(schema: Schema) -> list[str]:
    """Names of the features that a client sends: those that the schema has in its SERVING environment."""
    return [f.name for f in schema.feature if SERVING not in f.not_in_environment and is_alive(f)]


def is_alive(feature: Feature) -> bool:
    """Whether a feature is in use: neither deprecated nor planned nor disabled."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    return feature.lifecycle_stage in (schema_pb2.UNKNOWN_STAGE, schema_pb2.BETA, schema_pb2.PRODUCTION)


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
