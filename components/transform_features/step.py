"""Transforms the window by the analysed graph, and checks that serving computes the same."""

from __future__ import annotations

import heapq
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.transform_features.finite_values import add_counts, read_counts
from components.transform_features.labels import check_labels
from components.transform_features.parity import Parity, Sampled, check_parity
from perennial.data.beam import make_pipeline
from perennial.data.examples import split_files, split_prefix
from perennial.data.preprocessing import naming_user_line, raw_examples, read_batches
from perennial.errors import ProjectError
from perennial.project import Project
from perennial.storage.atomic import link_tree
from perennial.training.transformed_features import (
    TRANSFORM_GRAPH,
    TRANSFORMED_EXAMPLES,
    TransformedFeatures,
)
from perennial.user_module import function_line

if TYPE_CHECKING:
    import pyarrow as pa

# The judged split is never transformed here: models are judged on raw examples, through the served
# graph.
TRANSFORMED = ("train", "eval")
SAMPLED = 16  # examples of each split whose features are compared with serving's
# Beside the columns of a file, whose names are anybody's choice: no one chooses this.
_RAW = "__perennial_raw_example_f27c9b6e__"


def transform_features(project: Project, window: Path, graph: Path, output: Path) -> Parity:
    """Transforms the train and eval splits of a window by the graph of `analyse_features`.

    Writes `output/transform_graph/`, `output/transformed_examples/Split-{train,eval}/`, and in how
    many examples a feature or label is NaN or infinite, which the first training looks at. The
    label passes through as int64 unless `preprocessing_fn` returns it itself. What was written for
    some examples of each split is then compared with what the server computes for the same
    examples.

    Raises:
        DataError: A task does not take its labels, or all of them are the same.
        ProjectError: `preprocessing_fn` computes something else in serving than in training.
    """
    for folder in (TRANSFORM_GRAPH, TRANSFORMED_EXAMPLES):  # of an attempt that was killed
        shutil.rmtree(output / folder, ignore_errors=True)
    link_tree(graph / TRANSFORM_GRAPH, output / TRANSFORM_GRAPH)
    with tempfile.TemporaryDirectory() as scratch, naming_user_line(project):
        _run(project, window, output, Path(scratch))
        sampled = [pair for split in TRANSFORMED for pair in _read_pairs(Path(scratch, split))]
        read_counts(Path(scratch), TRANSFORMED).write(output)
    check_labels(project, TransformedFeatures(output, project.tasks))
    return check_parity(project, output / TRANSFORM_GRAPH, sampled)


def _run(project: Project, window: Path, output: Path, scratch: Path) -> None:
    from tensorflow_transform import beam as tft_beam

    try:
        # The pipeline runs when its context ends, so the scratch folder must outlive it.
        with (
            make_pipeline(project.settings.beam.options) as pipeline,
            tft_beam.Context(temp_dir=str(scratch / "beam"), passthrough_keys={_RAW}),
        ):
            _add_transforms(pipeline, project, window, output, scratch)
    except Exception as error:
        if "Cannot pass-through data when input and output batch sizes are different" not in str(
            error
        ):
            raise
        where = function_line(project.module().preprocessing_fn)
        expected, received = "must give one row for each example", "another number of rows"
        raise ProjectError(
            where, expected, received, "Set examples aside by expectations.json instead."
        ) from error


def _add_transforms(
    pipeline: Any, project: Project, window: Path, output: Path, scratch: Path
) -> None:
    import apache_beam as beam
    from tensorflow_transform import beam as tft_beam

    examples = raw_examples(project, "transform_features", raw_column=_RAW)
    graph = pipeline | "Read graph" >> tft_beam.ReadTransformFn(str(output / TRANSFORM_GRAPH))
    for split in TRANSFORMED:
        raw = read_batches(pipeline, split, split_files(window, split), examples)
        dataset = (raw, examples.TensorAdapterConfig())
        done = (dataset, graph) | f"Transform[{split}]" >> tft_beam.TransformDataset(
            output_record_batches=True
        )
        _write(done, split, output)
        _sample(done, split, scratch)
        add_counts(done[0] | f"Batches[{split}]" >> beam.Map(_batch_of), split, scratch)


def _write(done: Any, split: str, output: Path) -> None:
    import apache_beam as beam

    batches, metadata = done
    (
        batches
        | f"Encode[{split}]" >> beam.FlatMap(_encoder(metadata.schema)).with_output_types(bytes)
        | f"Write[{split}]"
        >> beam.io.WriteToTFRecord(
            split_prefix(output / TRANSFORMED_EXAMPLES, split), file_name_suffix=".gz"
        )
    )


def _sample(done: Any, split: str, scratch: Path) -> None:
    """Leaves some examples in `scratch/<split>`, with what was written for them.

    They are chosen by a hash of their bytes.
    """
    import apache_beam as beam

    batches, metadata = done
    (
        batches
        | f"Pair[{split}]"
        >> beam.FlatMap(_sampler(metadata.schema)).with_output_types(tuple[int, bytes, bytes])
        | f"Choose[{split}]" >> beam.combiners.Top.Smallest(SAMPLED)
        | f"Write pairs[{split}]" >> beam.Map(_write_pairs, str(scratch / split))
    )


def _encoder(schema: Any) -> Callable[[Any], list[bytes]]:
    from tfx_bsl.public import tfxio

    encoder = tfxio.RecordBatchToExamplesEncoder(schema)
    return lambda item: encoder.encode(_without_raw(item[0]))


def _sampler(schema: Any) -> Callable[[Any], Iterator[tuple[int, bytes, bytes]]]:
    from tfx_bsl.public import tfxio

    encoder = tfxio.RecordBatchToExamplesEncoder(schema)

    def sample(item: Any) -> Iterator[tuple[int, bytes, bytes]]:
        batch = item[0]
        raw = [values[0] for values in batch.column(batch.schema.get_field_index(_RAW)).to_pylist()]
        chosen = heapq.nsmallest(
            SAMPLED, range(len(raw)), key=lambda row: (zlib.crc32(raw[row]), row)
        )
        for row in chosen:
            (encoded,) = encoder.encode(_without_raw(batch.slice(row, 1)))
            yield zlib.crc32(raw[row]), raw[row], encoded

    return sample


def _batch_of(item: Any) -> pa.RecordBatch:
    return _without_raw(item[0])


def _without_raw(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.drop_columns([_RAW])


def _write_pairs(pairs: list[tuple[int, bytes, bytes]], path: str) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(path) as writer:
        for _, raw, transformed in pairs:
            writer.write(raw)
            writer.write(transformed)


def _read_pairs(path: Path) -> list[Sampled]:
    import tensorflow as tf

    if not path.exists():  # no example in this split
        return []
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    return [
        Sampled(raw, transformed)
        for raw, transformed in zip(records[::2], records[1::2], strict=True)
    ]
