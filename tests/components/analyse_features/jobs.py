"""What runs in a warm process for the tests of `analyse_features`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.project import Project
from tests.components.analyse_features.windows import Rows


def build(project: Project, window: Path, *spans: int) -> None:
    from tests.components.analyse_features.windows import write_rides

    write_rides(window, project, *spans)


def analyse(project: Project, window: Path, output: Path) -> tuple[list[str], list[str]]:
    """Names of the spans that were read, and of those that were kept."""
    from components.analyse_features.step import analyse_features

    found = analyse_features(project, window, output)
    return list(found.read), list(found.kept)


def message(project: Project, window: Path, output: Path) -> str:
    try:
        analyse(project, window, output)
    except PerennialError as error:
        return str(error)
    return "no error"


def features(output: Path, rows: Rows) -> dict[str, Any]:
    """What the graph in a folder makes of rows."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_transform as tft

    layer = tft.TFTransformOutput(str(output / "transform_graph")).transform_features_layer()
    columns = {
        "fare": tf.constant([row["fare"] for row in rows], tf.float32),
        "miles": tf.constant(
            [-1.0 if row["miles"] is None else row["miles"] for row in rows], tf.float32
        ),
        "payment": tf.constant([row["payment"].encode() for row in rows]),
    }
    return {name: np.asarray(tensor) for name, tensor in layer(columns).items()}


def plainly(project: Project, window: Path, output: Path) -> None:
    """Analyses the window as one dataset with TFT's `AnalyzeDataset`, without anything kept."""
    import tempfile

    from tensorflow_transform import beam as tft_beam

    from perennial.data.beam import make_pipeline
    from perennial.data.examples import split_files
    from perennial.data.preprocessing import load_preprocessing, raw_examples, read_batches

    examples = raw_examples(project, "test")
    with (
        tempfile.TemporaryDirectory() as scratch,
        make_pipeline(project.settings.beam.options) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        batches = read_batches(pipeline, "all", split_files(window, "train"), examples)
        graph = (batches, examples.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
            load_preprocessing(project)
        )
        graph | tft_beam.WriteTransformFn(str(output / "transform_graph"))


def fingerprints_of_both_orders() -> list[str]:
    """Fingerprints of one function over the same features, named in one order and in the other."""
    import tensorflow as tf
    import tensorflow_transform as tft

    from components.analyse_features.fingerprint import fingerprint

    def preprocessing(inputs: dict[str, Any]) -> dict[str, Any]:
        return {
            "z": tft.scale_to_z_score(inputs["fare"]),
            "word": tft.compute_and_apply_vocabulary(inputs["payment"]),
        }

    specs = {"fare": tf.TensorSpec([None], tf.float32), "payment": tf.TensorSpec([None], tf.string)}
    return [
        fingerprint(preprocessing, order, []) for order in (specs, dict(reversed(specs.items())))
    ]
