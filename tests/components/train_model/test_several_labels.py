"""A module with TFX's `run_fn` and several labels, through the product's own steps."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.errors import ProjectError
from perennial.tasks import Task
from perennial.tfx_module.outputs import choose_outputs
from tests.components.evaluate_model import weighted_jobs as jobs
from tests.forked import forked

# It reads its labels from the transformed examples itself, as a module of TFX does: TFX's own
# dataset has room for one. Its outputs have the names of the labels.
MODULE = """\
import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio

LABELS = ("label_xf", "doubled_xf")


def preprocessing_fn(inputs):
    noise = inputs["noise"]
    return {"noise_xf": noise, "label_xf": tf.cast(noise > 0.5, tf.int64), "doubled_xf": 2 * noise}


def read(files, accessor, schema):
    options = tfxio.TensorFlowDatasetOptions(batch_size=40, num_epochs=1)
    batches = accessor.tf_dataset_factory(files, options, schema)
    return batches.map(lambda row: (row["noise_xf"], {name: row[name] for name in LABELS}))


def run_fn(fn_args):
    graph = tft.TFTransformOutput(fn_args.transform_output)
    schema = graph.transformed_metadata.schema
    noise = keras.Input((1,), name="noise_xf")
    hidden = keras.layers.Dense(16, activation="relu")(noise)
    outputs = {
        "label_xf": keras.layers.Dense(1, name="label_xf")(hidden),
        "doubled_xf": keras.layers.Dense(1, name="doubled_xf")(hidden),
    }
    model = keras.Model(noise, outputs)
    losses = {
        "label_xf": keras.losses.BinaryCrossentropy(from_logits=True),
        "doubled_xf": "mean_squared_error",
    }
    model.compile(keras.optimizers.Adam(0.05), loss=losses)
    model.fit(read(fn_args.train_files, fn_args.data_accessor, schema), epochs=40, verbose=0)
    model.transform = graph.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples):
        spec = graph.raw_feature_spec()
        raw = tf.io.parse_example(examples, {"noise": spec["noise"]})
        return model(model.transform(raw)["noise_xf"][:, tf.newaxis])

    tf.saved_model.save(model, fn_args.serving_model_dir, signatures={"serving_default": serve})
"""
LARGE = {"name": "large", "kind": "binary", "label": "label_xf"}
DOUBLED = {"name": "doubled", "kind": "regression", "label": "doubled_xf"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    return forked(jobs.run, folder, MODULE, None, [LARGE, DOUBLED])


def test_each_label_is_learnt_served_and_measured(trained):
    """Outputs that are called as the labels belong to their tasks; logits are recognised."""
    large, doubled = trained["tables"]["large"], trained["tables"]["doubled"]
    assert set(large["label"]) == {0, 1}
    probabilities = np.stack(large["one"].tolist())
    assert (probabilities.argmax(axis=1) == large["label"]).mean() > 0.9
    assert np.abs(doubled["one"] - doubled["label"]).mean() < 0.1
    measured = {row.task: row.values for row in trained["evaluation"].slices}
    assert measured["large"]["accuracy"] > 0.9
    assert measured["doubled"]["mean_absolute_error"] < 0.1
    (note,) = trained["training"].notes
    assert "`label_xf` gives logits" in note and "sigmoid" in note


def test_the_eval_loss_is_that_of_all_labels(trained):
    best = trained["training"].best
    assert best.eval_metric > 0.85 and best.eval_loss < 0.5


def test_a_label_without_an_output_is_told_with_both_names():
    outputs = {"label_xf": np.zeros((2, 1)), "doubled_xf": np.zeros((2, 1))}
    tasks = [Task("large", "binary", "label_xf"), Task("other", "regression", "noise_xf")]
    with pytest.raises(ProjectError, match="Name an output `other` as the task, or `noise_xf`"):
        choose_outputs(outputs, 2, tasks, "model.py:1: run_fn")
