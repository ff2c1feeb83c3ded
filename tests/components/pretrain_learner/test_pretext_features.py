"""Which feature a pretext is about: the one that is set, or the only one that fits."""

from __future__ import annotations

import pytest

from components.pretrain_learner.image_pretexts import ImageShape, image_shape
from components.pretrain_learner.pool import Spread
from components.pretrain_learner.pretext_features import Held, choose_features
from components.pretrain_learner.table_pretext import MOST_CLASSES, column_of
from perennial.errors import ProjectError
from schemas.project import PretextSettings

FEATURES = {
    "pixels": Held("float32", (64,)),
    "photo": Held("float32", (32, 48, 3)),
    "fare": Held("float32", ()),
    "hour": Held("int64", (1,)),
    "title": Held("int64", (12,)),
    "company": Held("string", ()),
    "history": Held("int64", None),
}


def chosen(task, feature=None, without=()):
    settings = PretextSettings(task=task, feature=feature)
    return choose_features(
        settings, {name: held for name, held in FEATURES.items() if name not in without}
    )


def test_the_only_one_that_fits():
    assert chosen("rotation") == ["pixels"]  # the photo is not square
    assert chosen("masked_image", without=["pixels"]) == ["photo"]
    assert chosen("masked_words") == ["title"]
    assert chosen("masked_features") == ["pixels", "photo", "fare", "hour", "title"]


def test_the_one_that_is_set():
    assert chosen("masked_image", "photo") == ["photo"]


@pytest.mark.parametrize(
    "task, feature, without, received, remedy",
    [
        (
            "masked_image",
            None,
            [],
            "none, and the features pixels (float32 [64]), ",
            "Name one of pixels, photo.",
        ),
        ("masked_image", "foto", [], "foto, and the features", "Did you mean `photo`?"),
        ("rotation", "photo", [], "photo, and the features", "Name one of pixels."),
        (
            "masked_words",
            None,
            ["title"],
            "history (int64 of varying length)",
            "Return such a feature from prepro",
        ),
        ("masked_words", "history", [], "history, and the features", "Name one of title."),
    ],
)
def test_one_that_does_not_fit_names_the_setting_and_the_features(
    task, feature, without, received, remedy
):
    with pytest.raises(ProjectError) as caught:
        chosen(task, feature, without)
    assert (
        caught.value.where == "project.yaml: pretext.feature"
        and f"for pretext.task: {task}" in caught.value.expected
    )
    assert received in caught.value.received and caught.value.remedy.startswith(remedy)


def test_masked_features_are_all_features():
    with pytest.raises(
        ProjectError, match=r"project.yaml: pretext.feature must not be set .* Leave it out\."
    ):
        chosen("masked_features", "fare")
    with pytest.raises(
        ProjectError,
        match=r"project.yaml: pretext.task masked_features needs two features of numbers",
    ):
        chosen("masked_features", without=["pixels", "photo", "fare", "title"])


def test_images():
    assert image_shape((28, 28, 1)) == ImageShape(28, 28, 1) and image_shape((784,)) == ImageShape(
        28, 28
    )
    assert [image_shape(shape) for shape in [(), (1,), (9,), (65,), (2, 50, 3), (8, 8)]] == [
        None
    ] * 6


def test_whole_numbers_of_few_values_are_classes():
    few, many = Spread(0, 1, -1, MOST_CLASSES - 2), Spread(0, 1, 0, MOST_CLASSES)
    assert column_of("hour", 1, True, few).classes == MOST_CLASSES
    assert (
        column_of("seconds", 1, True, many).classes is None
        and column_of("fare", 1, False, few).classes is None
    )
