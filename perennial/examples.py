"""Examples as they lie on disk: tf.Example TFRecords in TFX's layout, `Split-<name>/data_tfrecord-*.gz`."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.project import SPLITS, SplitSettings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import tensorflow as tf
    from numpy.typing import NDArray
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

Value = int | float | bytes | list[int] | list[float] | list[bytes]
"""What a feature of one example holds."""

BATCH_ROWS = 8192
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


def splits_of(keys: Sequence[bytes], splits: SplitSettings) -> NDArray[np.intp]:
    """The splits of many keys, given as UTF-8, as places in `SPLITS`: what `split_of` says of each, int64 [keys]."""
    import numpy as np

    digests = b"".join([hashlib.sha256(key).digest()[:8] for key in keys])
    points = np.frombuffer(digests, ">u8").astype(np.float64) / 2**64
    if splits.by == "time":
        return np.searchsorted([splits.train / (splits.train + splits.eval)], points, side="right")
    return np.searchsorted([splits.train, splits.train + splits.eval], points, side="right")


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


def read_batches(files: list[str], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Reads examples as record batches of so many rows, as `decode_records` gives them."""
    import tensorflow as tf

    if not files:
        return
    for batch in tf.data.TFRecordDataset(files, compression_type="GZIP").batch(rows).as_numpy_iterator():
        yield decode_records(list(batch))


def to_frame(files: list[str], without: Container[int] = ()) -> pd.DataFrame:
    """Reads examples into a table that business rules can be stated on; row i is the i-th record of the files.

    Records whose position is in `without` are left out, and the rows are counted without them. A feature with one value
    per example is a column of that value. A feature with more (an image) is shown by `<name>.length`, `<name>.min`,
    `<name>.max` and `<name>.mean`. Bytes are decoded as UTF-8.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    batches, rows = [], 0
    for batch in read_batches(files):
        kept = np.array([place not in without for place in range(rows, rows + batch.num_rows)])
        rows += batch.num_rows
        batches.append(batch if kept.all() else batch.filter(pa.array(kept)))
    if not sum(batch.num_rows for batch in batches):
        return pd.DataFrame()
    # A feature that a batch lacks is missing in it; one that has no value there has no type there.
    table = pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive")
    del batches
    columns: dict[str, Any] = {}
    for name in sorted(table.schema.names):
        columns |= _frame_columns(name, table.column(name).combine_chunks())
        table = table.drop_columns([name])
    return pd.DataFrame(columns)


def serving_features(schema: Schema) -> list[str]:
    """Names of the features that a client sends: those that the schema has in its SERVING environment."""
    return [f.name for f in schema.feature if SERVING not in f.not_in_environment and is_alive(f)]


def is_alive(feature: Feature) -> bool:
    """Whether a feature is in use: neither deprecated nor planned nor disabled."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    return feature.lifecycle_stage in (schema_pb2.UNKNOWN_STAGE, schema_pb2.BETA, schema_pb2.PRODUCTION)


def _frame_columns(name: str, lists: pa.Array) -> dict[str, Any]:
    """The columns that show a feature, of a list of values for each example, null where it is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(lists.type):
        return {name: [None] * len(lists)}
    lengths = pc.list_value_length(lists)
    if (pc.max(lengths).as_py() or 0) > 1:
        return _summary_columns(name, lists)
    # Each list holds one value, or none where the value is missing.
    places = pc.if_else(pc.equal(lengths, 1), pc.subtract(pc.cumulative_sum(lengths.fill_null(0)), 1), None)
    values = pc.take(lists.flatten(), places)
    if pa.types.is_large_binary(values.type) or pa.types.is_binary(values.type):
        return {name: _as_texts(values)}
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
    if values.null_count == len(values):
        return {name: [None] * len(lists)}
    return {name: values.to_pandas()}


def _as_texts(values: pa.Array) -> Any:
    """Text of bytes, None where there are none; equal ones share their memory."""
    import pyarrow as pa

    try:
        return values.cast(pa.large_string()).to_pandas()
    except pa.ArrowInvalid:  # not UTF-8
        return [as_text(value) for value in values.to_pylist()]


def _summary_columns(name: str, lists: pa.Array) -> dict[str, Any]:
    """Length, least, greatest and mean of each list of numbers; of bytes, the length alone tells something."""
    found: dict[str, list[Any]] = {f"{name}.{measure}": [] for measure in ("length", "min", "max", "mean")}
    for start in range(0, len(lists), BATCH_ROWS):
        for values in lists.slice(start, BATCH_ROWS).to_pylist():
            numbers = [value for value in values or () if not isinstance(value, bytes)]
            found[f"{name}.length"].append(len(values) if values else 0)
            found[f"{name}.min"].append(min(numbers, default=None))
            found[f"{name}.max"].append(max(numbers, default=None))
            found[f"{name}.mean"].append(sum(numbers) / len(numbers) if numbers else None)
    return found


def as_text(value: Any) -> Any:
    """Bytes decoded as UTF-8, with a mark for what is not; other values as they are."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
