"""Models that a user's `run_fn` may save, and may not: each mistake is told with its place."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.errors import ProjectError, TrainingError
from perennial.export.contract import read_contract
from perennial.registry.model_files import check_model_files
from perennial.tfx_module.wrapped_model import user_model
from schemas.records import Hyperparameters
from tests.forked import forked
from tests.perennial.folders import TAXI
from tests.perennial.tfx_module.jobs import (
    SETTINGS,
    messages,
    outputs,
    raw_fares,
    taxi_project,
    train,
    train_and_note,
    transformed_taxi,
    tuned,
    with_tasks,
)

if not TAXI.exists():
    pytest.skip("the taxi trips are not beside the repository", allow_module_level=True)

TASK = {"name": "big_tip", "kind": "binary", "label": "tips_xf"}
ONE_LOGIT = '{"a": w * fares(examples) - 7.0}'
TWO_LOGITS = '{"a": tf.stack([0 * w * fares(examples), w * fares(examples) - 7.0], 1)}'
PROBABILITIES = (
    '{"a": tf.nn.softmax(tf.stack([0 * w * fares(examples), w * fares(examples) - 7.0], 1))}'
)
NUMBER = {"name": "miles", "kind": "regression", "label": "trip_miles_xf"}
GOOD = """
def run_fn(fn_args):
    save(fn_args, lambda w, examples: {"outputs": tf.sigmoid(w * fares(examples))})
"""


def _run_fn(line: str) -> str:
    return GOOD.replace(
        'save(fn_args, lambda w, examples: {"outputs": tf.sigmoid(w * fares(examples))})', line
    )


def _saving(result: str) -> str:
    return _run_fn(f"save(fn_args, lambda w, examples: {result})")


REFUSED = {
    "raises": (
        _run_fn("x = 1 / 0"),
        ("ProjectError", "module.py:", "run_fn must run on the transformed data", "ZeroDivisionError"),
    ),
    "is no function": ("run_fn = 3\n", ("ProjectError: module.py must define the function `run_fn`", "int")),
    "ends the process": (_run_fn("raise SystemExit(0)"), ("ProjectError", "module.py:", "run_fn", "SystemExit")),
    "saves nothing": (
        _run_fn("pass"),
        ("run_fn must save a SavedModel at fn_args.serving_model_dir", "nothing there", "tf.saved_model.save"),
    ),
    "saves something else": (
        _run_fn("import os; os.makedirs(fn_args.serving_model_dir); "
        "open(fn_args.serving_model_dir + '/a.h5', 'w')"),
        ("ProjectError", "a.h5", "tf.saved_model.save"),
    ),
    "saves no model": (
        _run_fn(
            "import os; os.makedirs(fn_args.serving_model_dir); "
            "open(fn_args.serving_model_dir + '/saved_model.pb', 'w').write('x')"
        ),
        ("ProjectError", "must save a model that TensorFlow loads", "tf.saved_model.save"),
    ),
    "no signature": (
        _run_fn('save(fn_args, lambda w, examples: {"a": w * fares(examples)}, name="predict")'),
        ("must save a model with the signature serving_default", "Received: predict", "tf.saved_model.save"),
    ),
    "transformed features": (
        _run_fn('save(fn_args, lambda w, x: {"a": w * x}, tf.TensorSpec([None], tf.float32, name="fare_xf"))'),
        ("raw features that clients send", "takes fare_xf", "parse tf.Examples"),
    ),
    "reads what clients do not send": (
        _saving('{"a": tf.sigmoid(w * fares(examples, tips=tf.io.FixedLenFeature([], tf.float32)) + w * tf.io.'
                'parse_example(examples, {"tips": tf.io.FixedLenFeature([], tf.float32)})["tips"])}'),
        ("predicts from what clients send", "`tips`", "not_in_environment"),
    ),
    "cannot answer zeros": (
        _saving('{"a": fares(examples, other=tf.io.FixedLenFeature([], tf.float32))}'),
        ("answers what clients send", "other", "serving_default"),
    ),
    "several outputs without the task's name": (
        _saving('{"a": w * fares(examples), "b": fares(examples)}'),
        ("an output for the task `big_tip`", "`a` float32 [n], `b` float32 [n]", "model.tasks"),
    ),
    "three columns for a binary task": (
        _saving('{"a": tf.fill([tf.shape(examples)[0], 3], w * 0 + 1 / 3)}'),
        ("as the task `big_tip` is binary", "`a` float32 [n, 3]", "kind in project.yaml"),
    ),
    "text": (_saving('{"a": tf.strings.as_string(w * fares(examples))}'), ("`a` object [n]", "serving_default")),
    "one answer for all rows": (
        _saving('{"a": tf.reduce_sum(w * fares(examples), keepdims=True)}'),
        ("a probability or a logit for each row", "`a` float32"),
    ),
    "gives NaN": (
        _saving('{"a": w * fares(examples) / 0.0 * 0.0}'),
        ("TrainingError", "run_fn must save a model whose output `a` is finite", "nan", "learning rate"),
    ),
    "holds NaN": (
        GOOD.replace("save(", "save_nan(")
        + "\n\ndef save_nan(fn_args, predict):\n    import unittest.mock\n"
        "    with unittest.mock.patch.object(tf, 'Variable', lambda _: NAN):\n        "
        "save(fn_args, predict)\n"
        "\n\nNAN = tf.Variable(float('nan'))\n",
        ("TrainingError", "must save a model whose weights are numbers", "NaN in weight", "preprocessing_fn"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """The folder of the transformed features of the taxi project."""
    return transformed_taxi(tmp_path_factory.getbasetemp())[1]


@pytest.fixture(scope="module")
def refused(features, tmp_path_factory):
    """Case -> the message that it gives."""
    folder = tmp_path_factory.mktemp("refused")
    projects = [
        taxi_project(folder / f"project-{number}", text)
        for number, (text, _) in enumerate(REFUSED.values())
    ]
    return dict(zip(REFUSED, forked(messages, projects, features, folder), strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused_with_its_place(refused, case):
    message = refused[case]
    for part in ("module.py", *REFUSED[case][1]):
        assert part in message, message


@pytest.fixture
def trained(features, tmp_path):
    """Trains by a module's text; gives the project and the folder of the served model."""

    def run(text, *tasks, hyperparameters=SETTINGS, base=None, **changes):
        project = taxi_project(tmp_path / "project", text, **changes)
        project = with_tasks(project, *tasks) if tasks else project
        return project, forked(
            train, project, features, tmp_path / "trained", hyperparameters, base
        )

    return run


def test_several_tasks_and_a_latent_vector(trained, features):
    both = (
        '{"big_tip": tf.stack([1 - p, p], 1), "miles": fares(examples)[:, tf.newaxis] * w, '
        '"latent": tf.stack([p, p, p], 1), "more": p}'
    )
    text = _run_fn("save(fn_args, predict)") + (
        "\n\ndef predict(w, examples):\n    p = tf.sigmoid(w * fares(examples))\n    return "
        f"{both}\n"
    )
    project, model = trained(text, TASK, NUMBER)
    found = forked(outputs, project, model, features)
    assert set(found) == {"big_tip_class", "big_tip_probabilities", "miles_value", "latent"}
    assert (
        found["latent"].shape == (len(found["miles_value"]), 3) and found["miles_value"].ndim == 1
    )
    np.testing.assert_allclose(
        found["big_tip_probabilities"][:, 1], found["latent"][:, 0], rtol=1e-5
    )
    contract = read_contract(model)
    assert contract.latent == 3 and [task.classes for task in contract.tasks] == [2, None]


def test_signature_that_takes_raw_features_by_name(trained, features):
    spec = 'tf.TensorSpec([None, 1], tf.float32, name="fare"), tf.TensorSpec([None], tf.int32, name="trip_start_hour")'
    result = '{"a": tf.sigmoid(fare * w + tf.cast(hour, tf.float32)[:, None])}'
    body = f"save(fn_args, lambda w, fare, hour: {result}, {spec})"
    project, model = trained(_run_fn(body))
    found = forked(outputs, project, model, features)
    assert found["probabilities"].shape[1] == 2 and found["probabilities"][:, 1].std() > 0


@pytest.mark.parametrize("output", ["auto", "logits"])
@pytest.mark.parametrize(
    ("result", "activation", "range_"),
    [(ONE_LOGIT, "sigmoid", "values from -7 to "), (TWO_LOGITS, "softmax", "values from -7 to ")],
)
def test_logits_are_served_as_probabilities(features, tmp_path, output, result, activation, range_):
    """By the settings, or by what the model answers on the eval split, which a note tells."""
    project = with_tasks(
        taxi_project(tmp_path / "project", _saving(result)), TASK | {"output": output}
    )
    notes = forked(train_and_note, project, features, tmp_path / "trained")
    answers = forked(outputs, project, tmp_path / "trained" / "model", features)
    fares = forked(raw_fares, features)
    expected = 1 / (1 + np.exp(7.0 - 0.01 * fares))
    np.testing.assert_allclose(answers["probabilities"][:, 1], expected, rtol=1e-4)
    if output == "auto":
        (note,) = notes
        assert f"`a` gives logits ({range_}" in note and activation in note
    else:
        assert notes == []


@pytest.mark.parametrize(
    ("result", "output", "says"),
    [
        (ONE_LOGIT, "probabilities", r"`a` is probabilities.*values from -7.*Set it to logits"),
        (
            '{"a": tf.fill([tf.shape(examples)[0], 2], 0 * w + 0.8)}',
            "probabilities",
            "a row that sums to 1.6",
        ),
        (PROBABILITIES, "logits", r"`a` is logits.*all sum to 1.*Set it to probabilities"),
    ],
)
def test_output_that_is_not_what_the_settings_say(trained, result, output, says):
    with pytest.raises(ProjectError, match=rf"{says}"):
        trained(_saving(result), TASK | {"output": output})


def test_more_labels_than_classes(trained):
    hours = {"name": "hour", "kind": "multi_class", "label": "trip_start_hour_xf"}
    with pytest.raises(
        ProjectError, match=r"each class of `trip_start_hour_xf`.*4 classes for labels up to 23"
    ):
        trained(_saving('{"a": tf.fill([tf.shape(examples)[0], 4], 0 * w + 0.25)}'), hours)


def test_run_fn_is_given_the_tuner_s_values_and_the_champion_s_model(trained, features, tmp_path):
    _, champion = trained(GOOD)
    text = """
def run_fn(fn_args):
    import keras_tuner
    found = keras_tuner.HyperParameters.from_config(fn_args.hyperparameters)
    units, rate = found.Int("units", 1, 9), found.get("rate")
    base = tf.saved_model.load(fn_args.base_model).signatures["serving_default"]
    raise ValueError(f"{units} {rate} {sorted(base.structured_outputs)} {fn_args.custom_config}")
"""
    chosen = Hyperparameters(
        learning_rate=0.1, batch_size=8, model={"units": 7, "rate": 0.5}, source="tuner"
    )
    project = taxi_project(tmp_path / "second", text, run_fn={"custom_config": {"depth": 2}})
    with pytest.raises(
        ProjectError, match=r"module.py:\d+: run_fn .*7 0.5 \['outputs'\] \{'depth': 2\}"
    ):
        forked(train, project, features, tmp_path / "again", chosen, user_model(champion))


def test_what_keras_2_saves_beside_a_model_is_left_out(trained):
    """`model.save` of Keras 2 adds the code of its layers; the model is served, without that."""
    line = GOOD.splitlines()[-1].strip()
    metadata = 'open(fn_args.serving_model_dir + "/keras_metadata.pb", "w").write("code")'
    _, model = trained(_run_fn(f"{line}\n    {metadata}"))
    check_model_files(model)
    kept = user_model(model)
    assert kept is not None and {path.name for path in kept.iterdir()} >= {"saved_model.pb"}


def test_native_model_has_no_user_model(tmp_path):
    assert user_model(tmp_path) is None


TUNER = """
run_fn = None


def build(hp):
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(hp.Int("units", 2, 4), "relu"),
                              keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    return model


def tuner_fn(fn_args):
    import keras_tuner
    import tensorflow_transform as tft
    from tfx.components.tuner.component import TunerFnResult
    from tfx_bsl.tfxio.dataset_options import TensorFlowDatasetOptions

    schema = tft.TFTransformOutput(fn_args.transform_graph_path).transformed_metadata.schema
    options = TensorFlowDatasetOptions(batch_size=16, label_key="tips_xf")

    def read(files):
        data = fn_args.data_accessor.tf_dataset_factory(files, options, schema)
        return data.map(lambda row, label: (tf.reshape(row["fare_xf"], [-1, 1]), label))

    tuner = keras_tuner.RandomSearch(
        build, max_trials=2, objective="val_loss", directory=fn_args.working_dir, project_name="search"
    )
    return TunerFnResult(tuner, {
        "x": read(fn_args.train_files), "steps_per_epoch": 3, "epochs": 1, "verbose": 0,
        "validation_data": read(fn_args.eval_files), "validation_steps": 2,
    })
"""


def test_tuner_fn_gives_its_best_hyperparameters(features, tmp_path):
    found = forked(tuned, taxi_project(tmp_path / "project", TUNER), features, tmp_path / "work")
    assert set(found) == {"units"} and found["units"] in (2, 3, 4)
    assert len(list((tmp_path / "work" / "search").glob("trial_*"))) == 2


@pytest.mark.parametrize(
    "old, new, error, says",
    [
        ("import keras_tuner", "x = {}['no']", ProjectError, r":\d+: tuner_fn .*KeyError"),
        ("import keras_tuner", "return {}", ProjectError, r"tuner_fn must return a TunerFnResult .*Received: dict"),
        ("    return TunerFnResult", "    tuner.search = dict\n    return TunerFnResult", TrainingError,
         r"tuner_fn must complete at least one trial.*none.*trials of the tuner"),
    ],
)  # fmt: skip
def test_tuner_fn_that_finds_nothing(features, tmp_path, old, new, error, says):
    with pytest.raises(error, match=says) as told:
        forked(
            tuned,
            taxi_project(tmp_path / "project", TUNER.replace(old, new)),
            features,
            tmp_path / "work",
        )
    assert told.value.where.startswith("module.py:")
