"""Transforms the window by the analysed graph, and checks that serving computes the same."""

from __future__ import annotations

import heapq
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from components.transform_features.finite_values import add_counts, read_counts
from components.transform_features.graphs import PACKED, graphs_from, pack_graph
from components.transform_features.labels import check_labels
from components.transform_features.parity import Parity, Sampled, check_parity
from perennial.data.beam import make_pipeline
from perennial.data.example_encoder import to_tfrecords
from perennial.data.examples import split_prefix, split_sources
from perennial.data.preprocessing import naming_user_line, raw_examples, read_batches
from perennial.data.worker_files import Handover, PipelineFiles, Workers
from perennial.errors import ProjectError
from perennial.project import Project
from perennial.storage.atomic import link_tree
from perennial.tasks import weight_features
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
    workers = Workers.of(project)
    with (
        tempfile.TemporaryDirectory(dir=output) as scratch,
        naming_user_line(project),
        PipelineFiles(workers, "transform_features", Path(scratch, "handed")) as files,
    ):
        if workers.root is not None:
            files.send(pack_graph(output / TRANSFORM_GRAPH, Path(scratch, "graph")), PACKED)
        _run(project, window, output, workers, files.handover, Path(scratch))
        files.receive()
        for split in TRANSFORMED:
            files.place(split, Path(split_prefix(output / TRANSFORMED_EXAMPLES, split)))
        sampled = [pair for split in TRANSFORMED for pair in _read_pairs(files.folder / split)]
        read_counts(files.folder, TRANSFORMED).write(output)
        features = _GivenValues(output, project.tasks, _read_values(project, files))
    check_labels(project, features)
    return check_parity(project, output / TRANSFORM_GRAPH, sampled)


@dataclass(frozen=True)
class _GivenValues(TransformedFeatures):
    """The transformed examples, with labels and weights as the workers handed them over.

    The examples may be out of this machine's reach.
    """

    values: Mapping[tuple[str, str], NDArray[np.float64]]

    @override
    def _values(self, name: str, split: str) -> NDArray[np.float64]:
        return self.values[name, split]


def _read_values(
    project: Project, files: PipelineFiles
) -> dict[tuple[str, str], NDArray[np.float64]]:
    values = {}
    for name in _label_features(project):
        for split in TRANSFORMED:
            parts = [np.fromfile(path) for path in files.paths(_values_of(split, name))]
            values[name, split] = np.concatenate([np.empty(0), *parts])
    return values


def _label_features(project: Project) -> list[str]:
    """Names the features that no model reads: the labels, and what weights examples."""
    return sorted({*(task.label for task in project.tasks), *weight_features(project.tasks)})


def _values_of(split: str, name: str) -> str:
    """Names the output that a feature's values in a split are."""
    return f"{split} {name}"


def _run(
    project: Project,
    window: Path,
    output: Path,
    workers: Workers,
    handover: Handover,
    scratch: Path,
) -> None:
    from tensorflow_transform import beam as tft_beam

    try:
        # The pipeline runs when its context ends, so the scratch folder must outlive it.
        with (
            make_pipeline(workers.options) as pipeline,
            graphs_from(handover if workers.root is not None else None),
            tft_beam.Context(temp_dir=str(scratch / "beam"), passthrough_keys={_RAW}),
        ):
            _add_transforms(pipeline, project, window, output, workers, handover)
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
    pipeline: Any,
    project: Project,
    window: Path,
    output: Path,
    workers: Workers,
    handover: Handover,
) -> None:
    import apache_beam as beam
    from tensorflow_transform import beam as tft_beam

    from perennial.data.file_sink import FileSink, example_sink, tell_files

    examples = raw_examples(project, "transform_features", raw_column=_RAW)
    graph = pipeline | "Read graph" >> tft_beam.ReadTransformFn(str(output / TRANSFORM_GRAPH))
    written: list[Any] = []
    for split in TRANSFORMED:
        files = split_sources(window, split, root=workers.root)
        raw = read_batches(pipeline, split, files, examples)
        dataset = (raw, examples.TensorAdapterConfig())
        done = (dataset, graph) | f"Transform[{split}]" >> tft_beam.TransformDataset(
            output_record_batches=True
        )
        _sample(done, split, handover)
        batches = done[0] | f"Batches[{split}]" >> beam.Map(_batch_of)
        add_counts(batches, split, handover)
        encoded = batches | f"Encode[{split}]" >> beam.Map(_encoder(done[1].schema))
        written.append(encoded | f"Write[{split}]" >> example_sink(handover, split))
        for name in _label_features(project):
            sink = FileSink(handover, _values_of(split, name), _values_encoder(name))
            written.append(batches | f"Write[{split}: {name}]" >> sink)
    tell_files(handover, written)


def _sample(done: Any, split: str, handover: Handover) -> None:
    """Hands over some examples as the file `<split>`, with what was written for them.

    They are chosen by a hash of their bytes.
    """
    import apache_beam as beam

    batches, metadata = done
    (
        batches
        | f"Pair[{split}]"
        >> beam.FlatMap(_sampler(metadata.schema)).with_output_types(tuple[int, bytes, bytes])
        | f"Choose[{split}]" >> beam.combiners.Top.Smallest(SAMPLED)
        | f"Write pairs[{split}]" >> beam.Map(_give_pairs, split, handover)
    )


def _encoder(schema: Any) -> Callable[[Any], list[bytes]]:
    from tfx_bsl.public import tfxio

    encoder = tfxio.RecordBatchToExamplesEncoder(schema)
    return lambda batch: encoder.encode(batch)


def _values_encoder(name: str) -> Callable[[pa.RecordBatch], bytes]:
    """Makes the function that gives a feature's values as bytes of float64."""

    def encode(batch: pa.RecordBatch) -> bytes:
        column = batch.column(batch.schema.get_field_index(name)).flatten()
        values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
        return values.tobytes()

    return encode


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


def _give_pairs(pairs: list[tuple[int, bytes, bytes]], name: str, handover: Handover) -> None:
    handover.give(name, to_tfrecords(each for pair in pairs for each in pair[1:]))


def _read_pairs(path: Path) -> list[Sampled]:
    import tensorflow as tf

    if not path.exists():  # no example in this split
        return []
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    return [
        Sampled(raw, transformed)
        for raw, transformed in zip(records[::2], records[1::2], strict=True)
    ]
