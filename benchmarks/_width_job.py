"""The steps of `width.py` at one width; prints the name and processor seconds of each, as JSON.

python benchmarks/_width_job.py COLUMNS ROWS FOLDER [together]
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import yaml

from perennial.project import Project, load_project
from perennial.tfx_compat import import_tfdv, prepare_process

Made = TypeVar("Made")
MODULE = '''"""Scales every column, by an analyser for each of them or by one for all together."""

import tensorflow as tf
import tensorflow_transform as tft

TOGETHER = {together}


def preprocessing_fn(inputs):
    columns = {{name: inputs[name] for name in sorted(inputs) if name not in ("id", "label")}}
    scaled = {{"label": inputs["label"]}}
    if TOGETHER:
        vector = tf.stack(list(columns.values()), axis=1)
        return scaled | {{"columns": tft.scale_to_z_score(vector, elementwise=True)}}
    return scaled | {{name: tft.scale_to_z_score(values) for name, values in columns.items()}}


def build_model(transform_output):
    return None  # a project must define it; only the data steps are measured
'''


def main() -> None:
    """Runs every step once, and TensorFlow Transform alone on what they made."""
    columns, rows, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    together = "together" in sys.argv[4:]
    prepare_process()
    import_tfdv()
    import tensorflow_transform  # noqa: F401  so that no step's seconds hold its import

    from components.analyse_features.step import analyse_features
    from components.check_examples.step import check_examples
    from components.compute_statistics.step import compute_statistics
    from components.ingest_examples.step import ingest_examples
    from components.transform_features.step import transform_features
    from components.validate_data.step import validate_data
    from perennial.data.worker_files import Workers
    from schemas.records import Span

    project = make_project(folder / "project", columns, rows, together)
    data = project.folder / "data" / "1.csv"
    span = Span(name="1", version=1, uri=str(data), fingerprint=digest(data))
    made = {name: folder / name for name in ("examples", "checked", "statistics", "window")}
    made |= {name: folder / name for name in ("measured", "validation", "graph", "features")}
    workers = Workers.of(project)
    timed("ingest_examples", lambda: ingest_examples(project, span, made["examples"]))
    timed("check_examples", lambda: check_examples(project, made["examples"], made["checked"]))
    timed(
        "compute_statistics",
        lambda: compute_statistics(
            made["checked"], workers, made["statistics"], project.schema, ("label",)
        ),
    )
    outputs = (made["window"], made["measured"], made["validation"])
    spans = ([made["checked"]], [made["statistics"]])
    timed("validate_data", lambda: validate_data(project, ["1"], [], *spans, *outputs))
    timed("analyse_features", lambda: analyse_features(project, made["window"], made["graph"]))
    timed(
        "transform_features",
        lambda: transform_features(project, made["window"], made["graph"], made["features"]),
    )
    timed("TensorFlow Transform alone", lambda: analyse_alone(project, made["window"]))


def timed(name: str, step: Callable[[], Made]) -> Made:
    """Prints the processor seconds of a step, which hardly depend on what else is going on.

    Gives what the step made.
    """
    began = time.process_time()
    made = step()
    print(json.dumps([name, time.process_time() - began]), flush=True)
    return made


def make_project(folder: Path, columns: int, rows: int, together: bool) -> Project:
    """Writes a project with so many columns of numbers, and one span."""
    (folder / "data").mkdir(parents=True)
    names = [f"c{number:04d}" for number in range(columns)]
    values = np.random.default_rng(1).normal(size=(rows, columns))
    with (folder / "data" / "1.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *names, "label"])
        for number, row in enumerate(values):
            writer.writerow([f"row-{number}", *(f"{value:.4f}" for value in row), number % 2])
    shape = "presence { min_fraction: 1 min_count: 1 } shape {}"
    clients = 'not_in_environment: "SERVING"'
    features = [f'feature {{ name: "{name}" type: FLOAT {shape} }}' for name in names]
    features += [
        f'feature {{ name: "id" type: BYTES {shape} {clients} }}',
        f'feature {{ name: "label" type: INT {shape} {clients} }}',
    ]
    environments = [f'default_environment: "{name}"' for name in ("TRAINING", "SERVING")]
    (folder / "schema.pbtxt").write_text("\n".join([*environments, *features]), encoding="utf-8")
    (folder / "expectations.json").write_text('{"expectations": []}', encoding="utf-8")
    (folder / "model.py").write_text(MODULE.format(together=together), encoding="utf-8")
    settings = {
        "name": "wide",
        "label": "label",
        "data": {"spans": "data/{SPAN}.csv", "key": "id"},
        "model": {"tasks": [{"kind": "binary"}]},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load_project(folder)


def digest(path: Path) -> str:
    """Gives the fingerprint of a span of one file."""
    from perennial.storage.digests import digest_file

    return digest_file(path)


def analyse_alone(project: Project, window: Path) -> None:
    """Analyses the same examples by TensorFlow Transform's own `AnalyzeDataset`."""
    from tensorflow_transform import beam as tft_beam

    from perennial.data.beam import make_pipeline
    from perennial.data.preprocessing import load_preprocessing, raw_examples, read_batches

    files = [str(path) for path in window.glob("*/Split-train/*")]
    examples = raw_examples(project, "analyse_features")
    with (
        tempfile.TemporaryDirectory() as scratch,
        make_pipeline(project.settings.beam.options) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        data = read_batches(pipeline, "all", files, examples)
        graph = (data, examples.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
            load_preprocessing(project)
        )
        _ = graph | tft_beam.WriteTransformFn(f"{scratch}/graph")


if __name__ == "__main__":
    main()
