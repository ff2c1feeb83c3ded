"""Columns of any name, and a column of images, from landing to the server's answers.

The tests of this module follow each other.
"""

import base64
import json
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from schemas.records import ServingCheck
from tests.e2e.conftest import PERENNIAL, Digits
from tests.stored import kept, read_file

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

KEY, LABEL, SLICE, IMAGE = "row #", "is it red? (0/1)", "size: S, M", "photo.png"
# As they stand in the headers of real files, and what a language, a graph or a page could take
# for something of its own.
NAMES = (
    "sepal length (cm)",  # scikit-learn's irises
    "education-num",  # the census
    "100%",
    "a,b",
    'say "it"',
    "it's",
    "a@b",
    "$price",
    "-x",
    "größe",
    "名前",
    "😀",
    "_hidden",
    "1st",
    "class",
    "None",
    "self",
    "inputs",
    "args",
    "name",
    "span",
    "group",
    "weight",
    "label",
    "key",
    "examples",
    "probabilities",
    "model_version",
    "__raw_example__",
    "Width",
    "width",
    "a b",
    "a-b",
    "a_b",
    "a.b",
    "a/b",
    "a\\b",
    "a\tb",
    " a",
    "a ",
    "a;b",
    "a|b",
    "{0}",
    "%s",
    "[a]",
    "<b>",
    "&amp;",
    "*",
    "?",
    "^0",
    "x" * 300,
)
MODULE = f"""
import keras
import tensorflow as tf
import tensorflow_transform as tft

NAMES = {NAMES!r}


def preprocessing_fn(inputs):
    features = {{name: tft.scale_to_z_score(inputs[name]) for name in NAMES}}
    features["first byte"] = tf.cast(
        tf.io.decode_raw(tf.strings.substr(inputs[{IMAGE!r}], 0, 1), tf.uint8), tf.float32
    )[:, 0] / 255
    return features


def build_model(transform_output):
    inputs = {{
        name: keras.Input((1,), name=f"input_{{number}}")
        for number, name in enumerate([*NAMES, "first byte"])
    }}
    x = keras.layers.Concatenate()(list(inputs.values()))
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(x))
"""


def rows(count):
    """Gives columns of numbers that hint at the label, and images that are no text."""
    draw = np.random.default_rng(4)
    labels = np.arange(count) % 2
    columns = {KEY: [f"row-{number}" for number in range(count)], LABEL: labels.tolist()}
    columns[SLICE] = ["S" if number % 3 else "M" for number in range(count)]
    columns[IMAGE] = [
        bytes([200 + label, 0, 255, number % 256, 0]) for number, label in enumerate(labels)
    ]
    columns |= {name: (draw.normal(size=count) + labels).tolist() for name in NAMES}
    return columns


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose schema is inferred, of one landed span."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "data").mkdir()
    pq.write_table(pa.table(rows(240)), folder / "data" / "2026-01-01.parquet")
    settings = {
        "name": "names",
        "label": LABEL,
        "data": {"spans": "data/{YYYY}-{MM}-{DD}.parquet", "key": KEY},
        "model": {"tasks": [{"kind": "binary"}]},
        "stabilise": {"draws": 1, "steps": 2},
        "train": {"epochs": 3, "instances": 1, "learning_rate": 0.01},
        "evaluate": {"slices": [SLICE]},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True))
    (folder / "model.py").write_text(MODULE)
    (folder / "expectations.json").write_text('{"expectations": []}')
    project = Digits(folder)
    inferred = project.command_of("schema", "infer")
    assert inferred.returncode == 0, inferred.stderr
    return project


def test_validate_shows_the_names_of_the_file(project):
    validated = project.command("validate")
    assert validated.returncode == 0, validated.stderr
    assert all(name in validated.stdout for name in ("sepal length (cm)", "größe", IMAGE))


def test_every_name_and_the_image_get_through_to_the_server(project):
    code, ended = project.run_command()
    assert (code, ended["outcome"]) == (0, "promoted"), ended
    (result,) = kept(project.project, "validate_serving")
    record = read_file(project.project, result, "serving_check", ServingCheck.FILE)
    check = ServingCheck.model_validate_json(record)
    assert check.passed and check.requests == 16


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_batch_prediction_takes_them_too(project, tmp_path, ending):
    columns, data = rows(20), tmp_path / f"more.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table(columns), data)
    else:
        encoded = [{"b64": base64.b64encode(image).decode()} for image in columns[IMAGE]]
        lines = zip(*(columns | {IMAGE: encoded}).values(), strict=True)
        data.write_text(
            "\n".join(json.dumps(dict(zip(columns, line, strict=True))) for line in lines)
        )
    output = tmp_path / "predicted.parquet"
    command = [PERENNIAL, "predict", project.folder, data, "--output", output]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predicted = pq.read_table(output)
    assert predicted.num_rows == 20
    assert {*NAMES, "predicted_class", "probabilities"} - {"model_version"} <= {
        *predicted.column_names
    }
