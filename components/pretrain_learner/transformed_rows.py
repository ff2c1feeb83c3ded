"""Unlabelled rows through the transform graph, as the served model would transform them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.pretrain_learner.unlabelled_rows import UnlabelledRows
from perennial.errors import ProjectError, describe_error
from perennial.project import Project
from perennial.training.transformed_features import TransformedFeatures
from perennial.user_module import function_line

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH = 256
_UNFIT = "it must have what preprocessing_fn reads"
# `Feature: image (data type: float) is required but could not be found.`, `Key: image, Index: 0.
# Number of ...`
_CAUSE = re.compile(r"\b(Feature|Key): .*")

Placed = tuple[str, bytes]


def transform_rows(
    project: Project,
    features: TransformedFeatures,
    rows: UnlabelledRows,
    required: Sequence[str],
    file: Path,
) -> int:
    """Writes the rows that can be transformed to a gzipped TFRecord file; gives how many there are.

    Args:
        project: Its schema says how a raw example is read.
        features: The transform graph is theirs.
        rows: They count each row that cannot be transformed.
        required: Transformed features that an example must have.
        file: Is made if there are rows.

    Raises:
        ProjectError: A required feature cannot be computed without a label.
    """
    import tensorflow as tf

    placed, count = iter(rows), 0
    batch = list(islice(placed, _BATCH))
    if not batch:
        return 0
    encode = _encoder(project, features, rows.features, required)
    with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
        while batch:
            for record in _encode_all(batch, encode, rows):
                writer.write(record)
                count += 1
            batch = list(islice(placed, _BATCH))
    return count


def _encode_all(
    batch: Sequence[Placed], encode: Callable[[list[bytes]], list[bytes]], rows: UnlabelledRows
) -> list[bytes]:
    """Transforms the rows, but for those that the transform refuses: they are found by halving."""
    import tensorflow as tf

    try:
        return encode([example for _, example in batch])
    except (tf.errors.OpError, ValueError) as error:
        if len(batch) == 1:
            rows.refuse(batch[0][0], f"{_UNFIT}. Received: {_cause(error)}")
            return []
    middle = len(batch) // 2
    return [
        record
        for half in (batch[:middle], batch[middle:])
        for record in _encode_all(half, encode, rows)
    ]


def _cause(error: Exception) -> str:
    """Gives what TensorFlow says of an example, without what it says of its graph."""
    match = _CAUSE.search(str(error))
    return match[0].strip() if match else describe_error(error)


def _encoder(
    project: Project, features: TransformedFeatures, names: Sequence[str], required: Sequence[str]
) -> Callable[[list[bytes]], list[bytes]]:
    """Makes the function from serialised raw examples to serialised transformed ones."""
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils
    from tfx_bsl.public import tfxio
    from tfx_bsl.tfxio.tensor_to_arrow import TensorsToRecordBatchConverter

    raw = schema_utils.schema_as_feature_spec(project.schema).feature_spec
    output = features.transform_output()
    layer = output.transform_features_layer()
    spec = {name: raw[name] for name in names if name in raw}

    def transform(records: tf.Tensor) -> dict[str, Any]:
        transformed = layer(tf.io.parse_example(records, spec))
        _check_present(project, required, transformed)
        return {name: transformed[name] for name in required}

    function = tf.function(transform, autograph=False).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    specs = {
        name: tf.type_spec_from_value(tensor)
        for name, tensor in function.structured_outputs.items()
    }
    converter = TensorsToRecordBatchConverter(specs)
    encoder = tfxio.RecordBatchToExamplesEncoder(output.transformed_metadata.schema)

    def encode(records: list[bytes]) -> list[bytes]:
        encoded: list[bytes] = encoder.encode(converter.convert(function(tf.constant(records))))
        return encoded

    return encode


def _check_present(project: Project, required: Sequence[str], computed: Collection[str]) -> None:
    """Checks that the features that the model reads can be computed without a label.

    TFT leaves the others out.
    """
    missing = [name for name in required if name not in computed]
    if missing:
        raise ProjectError(
            where=function_line(project.module().preprocessing_fn),
            expected="must compute what the model reads from what clients send, as unlabelled "
            "examples have no more",
            received=f"{', '.join(missing)}, made of other features",
            remedy="Make it of other inputs, or leave it out of the model.",
        )
