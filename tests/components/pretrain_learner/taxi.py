"""A project on real taxi trips with numbers, whole numbers and words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perennial.project import Project, load_project

SETTINGS = """\
name: trips
label: tipped
data:
  spans: data/{SPAN}.csv
  unlabelled: new/*.jsonl
  key: id
model:
  tasks: [{name: prediction, kind: binary}]
train: {learning_rate: 0.005}
"""

SCHEMA = """\
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "tipped" type: INT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "fare" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "miles" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "seconds" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "hour" type: INT presence { min_fraction: 1 } shape {} }
feature { name: "payment" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "company" type: BYTES presence { min_fraction: 1 } shape {} }
default_environment: "TRAINING"
default_environment: "SERVING"
"""

MODULE = '''\
import keras
import tensorflow as tf
import tensorflow_transform as tft

from perennial import features

WORDS = 8


def preprocessing_fn(inputs):
    """Numbers on a log scale, whole numbers as they are, the company's name as words."""
    # The vocabulary holds no empty text, so that a place without a word is -1 + 1.
    words = tft.compute_and_apply_vocabulary(features.tokens(inputs["company"], WORDS)) + 1
    return {
        **{name: tft.scale_to_z_score(tf.math.log1p(inputs[name])) for name in ("fare", "miles", "seconds")},
        "hour": inputs["hour"],
        "payment": tft.compute_and_apply_vocabulary(inputs["payment"], num_oov_buckets=1),
        "company_words": words,
    }


def build_model(transform_output):
    """Embeddings beside the numbers, one hidden layer."""
    inputs = {name: keras.Input((), name=name) for name in ("fare", "miles", "seconds")}
    parts = [keras.layers.Reshape((1,))(x) for x in inputs.values()]
    for name, values in (("hour", 24), ("payment", 16)):
        inputs[name] = keras.Input((), name=name, dtype="int64")
        parts.append(keras.layers.Embedding(values, 4, name=f"{name}_embedding")(inputs[name]))
    inputs["company_words"] = keras.Input((WORDS,), name="company_words", dtype="int64")
    words = keras.layers.Embedding(500, 16, name="word_embedding")(inputs["company_words"])
    parts.append(keras.layers.Flatten()(words))
    latent = keras.layers.Dense(64, activation="relu", name="latent_layer")(keras.layers.Concatenate()(parts))
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="tipped")(latent))
'''


def make_taxi(folder: Path) -> Project:
    """The project, without data."""
    folder.mkdir(parents=True)
    for name, text in (("project.yaml", SETTINGS), ("schema.pbtxt", SCHEMA), ("model.py", MODULE)):
        (folder / name).write_text(text)
    (folder / "expectations.json").write_text('{"expectations": []}')
    return load_project(folder)


def trips(data: Path, count: int) -> list[dict[str, Any]]:
    """The first trips of the file."""
    import pandas as pd

    frame = pd.read_csv(data, nrows=count)
    rows = pd.DataFrame(
        {
            "id": [f"trip-{number}" for number in range(len(frame))],
            "tipped": (frame["tips"] > 0.2 * frame["fare"]).astype(int),
            "fare": frame["fare"].fillna(0).astype(float),
            "miles": frame["trip_miles"].fillna(0).astype(float),
            "seconds": frame["trip_seconds"].fillna(0).astype(float),
            "hour": frame["trip_start_hour"].astype(int),
            "payment": frame["payment_type"].fillna("unknown"),
            "company": frame["company"].fillna("none"),
        }
    )
    found: list[dict[str, Any]] = rows.to_dict("records")
    return found
