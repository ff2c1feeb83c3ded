"""A module with TFX's `run_fn`: what it saved is measured as it serves, on the raw examples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perennial.project import load_project
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import Instance, Training
from tests.chain import copy_project
from tests.components.train_model.jobs import COLD, serve_eval_split, train_by_run_fn
from tests.forked import forked

RUN_FN = '''
def run_fn(fn_args):
    """Trains one dense layer on the transformed pixels, and serves raw examples."""
    import tensorflow as tf

    graph = tft.TFTransformOutput(fn_args.transform_output)
    spec = graph.transformed_feature_spec()

    def read(files):
        records = tf.data.TFRecordDataset(tf.io.gfile.glob(files), compression_type="GZIP")
        parsed = records.batch(32).map(lambda r: tf.io.parse_example(r, spec))
        return parsed.map(lambda f: (f["pixels"], f["label"]))

    dense = keras.layers.Dense(CLASSES, activation="softmax")
    model = keras.Sequential([keras.Input((64,)), dense])
    if fn_args.base_model:
        saved = tf.saved_model.load(fn_args.base_model)
        dense.set_weights([v.numpy() for v in saved.signatures["serving_default"].trainable_variables])
    model.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy")
    model.fit(read(fn_args.train_files), epochs=3, verbose=0)
    model.transform = graph.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples):
        raw = graph.raw_feature_spec()
        raw.pop("label")
        features = model.transform(tf.io.parse_example(examples, {"image": raw["image"]}))
        return {"outputs": model(features["pixels"])}

    tf.saved_model.save(model, fn_args.serving_model_dir, signatures={"serving_default": serve})
'''


def with_run_fn(project, rate):
    text = project.module_path.read_text()
    head = text[: text.index("def build_model")]
    project.module_path.write_text(f"{head}{RUN_FN}".replace("RATE", str(rate)))
    return load_project(project.folder)


@pytest.fixture(scope="module")
def called(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("called")
    project = with_run_fn(copy_project(chain, folder / "digits"), 0.01)
    broken = with_run_fn(copy_project(chain, folder / "broken"), "float('nan')")
    patched = Instance(name="patched-1", seed=18, start="patched")
    return project, folder, forked(train_by_run_fn, project, broken, chain, COLD, patched, folder)


def test_the_record_tells_what_was_measured(chain, called):
    project, folder, found = called
    record = found["cold"]
    assert Training.read(folder / "cold") == record and record.digest == digest_folder(
        folder / "cold" / SAVED_MODEL
    )
    assert (record.strategy, record.best_epoch, len(record.epochs), record.notes) == (
        "run_fn",
        0,
        1,
        [],
    )
    assert (record.train_examples, record.eval_examples) == (
        180,
        51,
    ) and record.parameters == 64 * 10 + 10
    served = forked(serve_eval_split, project, folder / "cold" / SAVED_MODEL, chain.window)
    scores, labels = served["examples"]["probabilities"], served["labels"]
    assert record.best.eval_metric == pytest.approx((scores.argmax(axis=1) == labels).mean())
    loss = -np.log(scores[np.arange(len(labels)), labels]).mean()
    assert record.best.eval_loss == pytest.approx(
        loss, rel=1e-4
    ) and record.best.train_loss < math.log(10)


def test_a_patched_instance_starts_from_what_run_fn_saved_for_the_champion(called):
    found = called[2]
    assert (
        found["patched"].notes == []
        and found["patched"].best.train_loss < found["cold"].best.train_loss
    )
    assert [found[name].weights_from for name in ("patched", "no champion")] == ["champion", "draw"]
    assert found["no champion"].notes == [
        "there is no champion to patch yet; run_fn was given no base_model"
    ]


def test_a_loss_that_is_no_number_names_the_line(called):
    _, folder, found = called
    message = found["diverged"]
    lines = (folder / "broken" / "model.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("def run_fn"))
    assert message.startswith("TrainingError: ") and f"model.py:{line}: run_fn" in message
    assert not (folder / "diverged" / "training.json").exists()
