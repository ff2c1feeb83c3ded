"""The transform: what `preprocessing_fn` says, by statistics of the train split alone; its mistakes are named."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.errors import ProjectError
from tests.components.chain import copy_project
from tests.components.forked import forked
from tests.components.ingest_examples.test_step import read_rows

RETURN = '    return {"pixels": tft.scale_to_z_score(inputs["image"])}'
BROKEN = {
    'return {"pixels": inputs["imagee"]}': "KeyError: 'imagee'",
    "assert False": "AssertionError",
    'raise ValueError("one\\ntwo")': "ValueError: one",
    'return {"pixels": tft.no_such_analyzer(inputs["image"])}': "AttributeError",
}


def read_features(project, folder):
    """Split -> pixels and labels, in the order of their labels and pixels."""
    from perennial.modelling.features import TransformedFeatures

    found = {}
    for split in ("train", "eval"):
        features, labels = TransformedFeatures(folder, project.settings.label).split(split)
        found[split] = (features["pixels"].numpy(), labels.numpy())
    return found


@pytest.fixture(scope="module")
def features(chain):
    return forked(read_features, chain.project, chain.features)


@pytest.fixture(scope="module")
def raw(chain):
    spans = [forked(read_rows, chain.examples(span.name)) for span in chain.selection.window]
    return {split: [row for rows in spans for row in rows[split]] for split in ("train", "eval")}


def _pixels(rows):
    return np.array([row["image"] for row in rows], dtype=np.float64)


def _sorted(pixels):
    return pixels[np.lexsort(pixels.T)]


@pytest.mark.parametrize("split", ["train", "eval"])
def test_pixels_are_scaled_by_the_train_split(features, raw, split):
    train = _pixels(raw["train"])
    expected = (_pixels(raw[split]) - train.mean()) / train.std()
    np.testing.assert_allclose(_sorted(features[split][0]), _sorted(expected.astype(np.float32)), atol=1e-4)


def test_train_split_has_mean_zero_and_variance_one(features):
    assert features["train"][0].mean() == pytest.approx(0, abs=1e-3)
    assert features["train"][0].var() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_labels_pass_through(features, raw, split):
    labels = features[split][1]
    assert labels.dtype == np.int64 and sorted(labels) == sorted(row["label"][0] for row in raw[split])


def test_labels_stay_with_their_pixels(features, raw):
    by_image = {tuple(row["image"]): row["label"][0] for row in raw["train"]}
    images, train = _pixels(raw["train"]), features["train"]
    restored = np.rint(train[0] * images.std() + images.mean())
    assert [by_image[tuple(image)] for image in restored] == list(train[1])


def test_the_test_split_is_never_seen(chain):
    assert sorted(path.name for path in (chain.features / "transformed_examples").iterdir()) == [
        "Split-eval",
        "Split-train",
    ]


def transform_each(project, window, bodies, folder):
    """Body -> the message of the error that it gives."""
    from components.transform_features.step import transform_features

    text, found = project.module_path.read_text(), {}
    for number, body in enumerate(bodies):
        project.module_path.write_text(text.replace(RETURN, f"    {body}"))
        try:
            transform_features(project, window, folder / str(number))
        except ProjectError as error:
            found[body] = str(error)
    return found


@pytest.fixture(scope="module")
def messages(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    project = copy_project(chain, folder / "digits")
    return forked(transform_each, project, chain.window, [*BROKEN, "pass"], folder)


@pytest.mark.parametrize("body", BROKEN)
def test_error_in_the_function_names_its_line(messages, body, chain):
    line = chain.project.module_path.read_text().splitlines().index(RETURN) + 1
    assert messages[body].startswith(f"model.py:{line}: preprocessing_fn must run on the data. Received: ")
    assert BROKEN[body] in messages[body] and len(messages[body].splitlines()) == 1


def test_function_that_returns_nothing(messages):
    assert "preprocessing_fn must return a dictionary of features. Received: NoneType" in messages["pass"]
    assert messages["pass"].startswith("model.py:")


def preprocess(outputs):
    """What the step's function gives for a label of 3, where the user's function returns `outputs`."""
    from components.transform_features.step import with_label

    return {name: int(value) for name, value in with_label(lambda _: outputs, "label")({"label": 3}).items()}


def test_label_that_the_function_returns_is_taken():
    assert forked(preprocess, {"x": 1}) == {"x": 1, "label": 3}
    assert forked(preprocess, {"x": 1, "label": 7}) == {"x": 1, "label": 7}
