"""Runs the user's `preprocessing_fn` over the window with TensorFlow Transform."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.beam import make_pipeline
from perennial.errors import ProjectError, describe_error
from perennial.examples import split_files, split_prefix
from perennial.modelling.features import TRANSFORM_GRAPH, TRANSFORMED_EXAMPLES
from perennial.project import Project
from perennial.user_module import function_line, load_module, user_line

if TYPE_CHECKING:
    import tensorflow as tf

Preprocessing = Callable[[dict[str, "tf.Tensor"]], dict[str, "tf.Tensor"]]

# The judged split is never transformed here: models are judged on raw examples, through the served graph.
TRANSFORMED = ("train", "eval")


def transform_features(project: Project, window: Path, output: Path) -> None:
    """Analyses the train split, and transforms the train and eval splits of a window.

    Writes `output/transform_graph/` and `output/transformed_examples/Split-{train,eval}/`. The label passes through
    as int64 unless `preprocessing_fn` returns it itself.

    Raises:
        ProjectError: `preprocessing_fn` fails; the message names its line.
    """
    from tensorflow_transform import beam as tft_beam

    output.mkdir(parents=True, exist_ok=True)
    module = load_module(project.module_path)
    preprocessing = with_label(module.preprocessing_fn, project.settings.label)
    try:
        # The pipeline runs when its context ends, so the scratch folder must outlive it.
        with (
            tempfile.TemporaryDirectory() as scratch,
            make_pipeline(project.settings.beam.options) as pipeline,
            tft_beam.Context(temp_dir=scratch),
        ):
            _add_transforms(pipeline, project, window, preprocessing, output)
    except ProjectError:
        raise
    except Exception as error:
        place = user_line(project.module_path, error)
        if place == project.module_path.name:
            raise  # not from the user's file
        raise ProjectError(
            f"{place}: preprocessing_fn", "must run on the data", describe_error(error), "Correct it."
        ) from error


def with_label(preprocessing: Preprocessing, label: str) -> Preprocessing:
    """The user's function, with the label added to what it returns."""

    def preprocess(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        import tensorflow as tf

        outputs: object = preprocessing(inputs)
        if not isinstance(outputs, dict):
            where, expected = function_line(preprocessing), "must return a dictionary of features"
            raise ProjectError(where, expected, type(outputs).__name__, "Return the features by name.")
        return outputs if label in outputs else {**outputs, label: tf.cast(inputs[label], tf.int64)}

    return preprocess


def _add_transforms(pipeline: Any, project: Project, window: Path, preprocessing: Preprocessing, output: Path) -> None:
    from tensorflow_transform import beam as tft_beam

    sources = {split: _source(window, split, project) for split in TRANSFORMED}
    raw = {split: pipeline | f"Read[{split}]" >> source.BeamSource() for split, source in sources.items()}
    config = sources["train"].TensorAdapterConfig()
    graph = (raw["train"], config) | "Analyse" >> tft_beam.AnalyzeDataset(preprocessing)
    graph | "Write graph" >> tft_beam.WriteTransformFn(str(output / TRANSFORM_GRAPH))
    for split in TRANSFORMED:
        dataset = (raw[split], config)
        done = (dataset, graph) | f"Transform[{split}]" >> tft_beam.TransformDataset(output_record_batches=True)
        _write(done, split, output)


def _write(done: Any, split: str, output: Path) -> None:
    import apache_beam as beam
    from tfx_bsl.public import tfxio

    batches, metadata = done
    (
        batches
        | f"Encode[{split}]"
        >> beam.FlatMap(_encoder(tfxio.RecordBatchToExamplesEncoder(metadata.schema))).with_output_types(bytes)
        | f"Write[{split}]"
        >> beam.io.WriteToTFRecord(split_prefix(output / TRANSFORMED_EXAMPLES, split), file_name_suffix=".gz")
    )


def _encoder(encoder: Any) -> Callable[[Any], list[bytes]]:
    return lambda item: encoder.encode(item[0])


def _source(window: Path, split: str, project: Project) -> Any:
    from tfx_bsl.public import tfxio

    return tfxio.TFExampleRecord(
        file_pattern=split_files(window, split),
        schema=project.schema,
        telemetry_descriptors=["perennial", "transform_features"],
    )
