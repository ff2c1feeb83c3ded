"""The transform: what `preprocessing_fn` says, the same in training and in serving."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.data.examples import split_of
from perennial.errors import ProjectError
from tests.components.analyse_features.windows import make_rides, rides
from tests.components.transform_features.jobs import (
    build_and_transform,
    check_models,
    digits,
    messages,
    read_features,
    taxi,
    transform,
    with_labels,
    wrapped,
)
from tests.components.transform_features.trips import BODY as ALL_FUNCTIONS
from tests.components.transform_features.trips import ROWS, SCHEMA
from tests.forked import forked
from tests.perennial.folders import TAXI, make_project

BODY = """
return {
    "fare": tft.scale_to_z_score(inputs["fare"]),
    "miles": inputs["miles"],
    "word": tft.compute_and_apply_vocabulary(inputs["payment"], num_oov_buckets=1),
    "sparse": tf.sparse.from_dense(tf.expand_dims(inputs["miles"], 1)),
    "words": tf.strings.split(inputs["payment"]).to_sparse(),
}
"""


@pytest.fixture(scope="module")
def rode(tmp_path_factory):
    """A project and the folder where its steps left what they made."""
    folder = tmp_path_factory.mktemp("rode")
    project = make_rides(folder / "project", BODY)
    compared = forked(build_and_transform, project, folder, 1, 2)
    return project, folder, compared


@pytest.fixture(scope="module")
def features(rode):
    project, folder, _ = rode
    return forked(read_features, project, folder / "features")


def _rows(project, split):
    rows = [row for span in (1, 2) for row in rides(span)]
    return [row for row in rows if split_of(row["id"], project.settings.data.splits) == split]


@pytest.mark.parametrize("split", ["train", "eval"])
def test_features_are_scaled_by_the_train_split(rode, features, split):
    train = np.array([row["fare"] for row in _rows(rode[0], "train")])
    expected = (
        np.array([row["fare"] for row in _rows(rode[0], split)]) - train.mean()
    ) / train.std()
    np.testing.assert_allclose(
        np.sort(features[split][0]["fare"]), np.sort(expected), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("split", ["train", "eval"])
def test_features_and_labels_of_an_example_stay_together(rode, features, split):
    rows, (found, labels) = _rows(rode[0], split), features[split]
    assert labels.dtype == np.int64
    order = np.argsort([row["fare"] for row in rows], kind="stable")
    mine = np.argsort(found["fare"], kind="stable")
    np.testing.assert_array_equal(labels[mine], [rows[place]["tipped"] for place in order])
    miles = [-1.0 if rows[place]["miles"] is None else rows[place]["miles"] for place in order]
    np.testing.assert_allclose(found["miles"][mine], miles, rtol=1e-6)


def test_the_test_split_is_never_seen(rode):
    folder = rode[1] / "features" / "transformed_examples"
    assert sorted(path.name for path in folder.iterdir()) == ["Split-eval", "Split-train"]


def test_features_are_compared_with_servings(rode):
    assert rode[2] == (32, ("fare", "miles", "sparse", "word", "words"))


def test_a_second_attempt_leaves_the_same(rode, features):
    project, folder, compared = rode
    (
        folder
        / "features"
        / "transformed_examples"
        / "Split-train"
        / "data_tfrecord-00000-of-00009.gz"
    ).touch()
    assert forked(transform, project, folder / "window", folder) == compared
    again = forked(read_features, project, folder / "features")
    np.testing.assert_array_equal(
        np.sort(again["train"][0]["fare"]), np.sort(features["train"][0]["fare"])
    )


def test_the_digits_model_computes_the_same_in_serving(tmp_path):
    project = make_project(tmp_path / "digits")
    compared, names = forked(digits, project, tmp_path / "window", tmp_path)
    assert names == ("pixels",) and 25 <= compared <= 32


UNLIKE = {
    'x = inputs["fare"]\nreturn {"fare": x - tf.reduce_mean(x), "miles": inputs["miles"]}': (
        "fare",
        "0 in serving",
    ),
    'return {"x": inputs["fare"] + tf.random.uniform(tf.shape(inputs["fare"]))}': (
        "x",
        "in serving (alone",
    ),
    'return {"x": tf.strings.as_string(tf.argsort(inputs["fare"]))}': (
        "x",
        "'0' in serving (alone in a request)",
    ),
}
ALIKE = [
    # The first is centred by an analyzer, the second by nothing that clients send.
    'return {"x": inputs["fare"] - tft.mean(inputs["fare"]), "y": tf.cast(inputs["tipped"], tf.float32)}',
]


# The line after the function's first one; the operation is in a branch of a condition.
FAILING = """
fare = inputs["fare"]
below = tf.debugging.assert_less(fare, 0.0)
with tf.control_dependencies([below]):
    return {"x": tf.identity(fare)}
"""


@pytest.fixture(scope="module")
def told(rode, tmp_path_factory):
    _, folder, _ = rode
    bodies = [
        *UNLIKE,
        *ALIKE,
        FAILING,
        'return {"x": inputs["fare"][:1], "tipped": inputs["tipped"][:1]}',
    ]
    copy = make_rides(tmp_path_factory.mktemp("told") / "project", BODY)
    found = forked(messages, copy, bodies, folder / "window", copy.folder / "out")
    return dict(zip(bodies, found, strict=True))


@pytest.mark.parametrize("body", UNLIKE)
def test_statistic_over_the_batch_is_named(told, body):
    name, value = UNLIKE[body]
    start = (
        "model.py:5: preprocessing_fn must compute the same for an example in training and in "
        "serving. Received: "
    )
    assert told[body].startswith(f"{start}`{name}` of the example ")
    assert (
        value in told[body] and "tf.reduce_mean" in told[body] and len(told[body].splitlines()) == 1
    )


@pytest.mark.parametrize("body", ALIKE)
def test_innocent_functions_pass(told, body):
    assert told[body] == "no error"


NOT_FINITE = """
fare, miles = inputs["fare"], inputs["miles"]
return {
    "fare": tf.where(fare > 20.0, float("nan"), fare),
    "log": tf.sparse.from_dense(tf.expand_dims(tf.math.log(miles + 1.0), 1)),
    "good": fare,
}
"""


def test_values_that_are_not_finite_are_named_before_a_model_is_blamed(rode, tmp_path):
    _, folder, _ = rode
    project = make_rides(tmp_path / "project", NOT_FINITE)
    counted, masked, error = forked(check_models, project, folder / "window", tmp_path)
    kept = [row for split in ("train", "eval") for row in _rows(project, split)]
    dear = sum(row["fare"] > 20 for row in kept)
    unknown = sum(row["miles"] is None for row in kept)
    assert counted.examples == {"fare": dear, "log": unknown} and counted.rows == len(kept)
    assert masked == "no error"
    assert error.startswith("model.py:5: preprocessing_fn must give finite numbers. Received: `")
    assert f"`fare` is NaN or infinite in {dear} of {len(kept)} examples" in error
    assert f"`log` is NaN or infinite in {unknown} of {len(kept)} examples" in error
    assert "tf.math.is_finite" in error


def test_an_operation_that_fails_on_the_data_names_its_line(told):
    """The data is met by the graph, in which the user's file is not named."""
    message = told[FAILING]
    assert message.startswith("model.py:7: preprocessing_fn must run on the data. Received: ")
    assert "assertion failed" in message and "expectations.json" in message
    assert len(message.splitlines()) == 1


def test_function_that_drops_examples(told):
    assert list(told.values())[-1] == (
        "model.py:5: preprocessing_fn must give one row for each example. Received: another number "
        "of rows. "
        "Set examples aside by expectations.json instead."
    )


@pytest.fixture(scope="module")
def trips(tmp_path_factory):
    if not TAXI.exists():
        pytest.skip("the taxi trips are not beside the repository")
    folder = tmp_path_factory.mktemp("trips")
    project = make_rides(folder / "project", ALL_FUNCTIONS, SCHEMA)
    return forked(taxi, project, TAXI, folder)


def test_all_feature_functions_are_the_same_in_serving(trips):
    assert trips["rows"] == ROWS and trips["compared"] == 32 and len(trips["names"]) == 26


def test_feature_functions_give_features_of_real_trips(trips):
    features = trips["features"]
    assert (
        set(features["part_year"]) <= set(range(2013, 2018)) and features["company_bag"].sum() > 0
    )
    assert len(set(features["hour_by_payment"])) > 10 and features["frequency"].std() > 0.5
    assert features["company_tokens"].shape[1:] == (4,)


def test_feature_functions_are_part_of_an_exported_model(trips):
    assert len(trips["answers"]) > 10
    np.testing.assert_allclose(trips["answers"].sum(axis=1), 1, rtol=1e-5)


def test_label_that_the_function_returns_is_taken():
    assert forked(with_labels, {"x": 1}) == {"x": 1, "label": 3}
    assert forked(with_labels, {"x": 1, "label": 7}) == {"x": 1, "label": 7}
    with pytest.raises(ProjectError, match="must return the label `label`"):
        forked(with_labels, {"x": 1}, True)


def test_wrappers_pass_the_graph_on_and_refuse_another_project(rode, tmp_path):
    project, folder, _ = rode
    digests = [project.digest_of(step) for step in ("analyse_features", "transform_features")]
    left = forked(wrapped, project, digests, folder / "window", tmp_path)
    assert left == ["not_finite.json", "transform_graph", "transformed_examples"]
    with pytest.raises(
        ProjectError, match=r"what transform_features reads of the project .* must stay"
    ):
        forked(wrapped, project, [digests[0], "0" * 64], folder / "window", tmp_path)


LABELS = {
    "constant": ('"tipped": tf.ones_like(inputs["tipped"])', "at least two different labels"),
    "from 1": ('"tipped": inputs["tipped"] + 1', "class numbers that count from 0. Received: 1, 2"),
    "negative": ('"tipped": 2 * inputs["tipped"] - 1', "class numbers from 0. Received: -1 in"),
    "halves": (
        '"tipped": tf.cast(inputs["tipped"], tf.float32) / 2',
        "class numbers from 0. Received: 0.5 in",
    ),
}


def test_labels_that_nothing_can_be_trained_on_are_refused_before_training(rode, tmp_path):
    _, folder, _ = rode
    copy = make_rides(tmp_path / "copy", BODY)
    bodies = [f'return {{"fare": inputs["fare"], {label}}}' for label, _ in LABELS.values()]
    found = forked(messages, copy, bodies, folder / "window", tmp_path / "out")
    for message, (_, expected) in zip(found, LABELS.values(), strict=True):
        assert message.startswith("labels `tipped` of the multi_class task `prediction` must be")
        assert expected in message and "model.tasks[0].label" in message
        assert " examples" in message
