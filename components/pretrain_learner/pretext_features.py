"""The choice of the transformed features that a pretext is about."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.pretrain_learner.image_pretexts import MaskedImage, Rotation, image_shape
from components.pretrain_learner.pool import Pool
from components.pretrain_learner.table_pretext import MaskedFeatures, column_of
from components.pretrain_learner.word_pretext import MOST_WORDS, NO_WORD, MaskedWords
from perennial.errors import ProjectError
from schemas.project import PretextSettings

if TYPE_CHECKING:
    pass

Pretext = Rotation | MaskedImage | MaskedFeatures | MaskedWords
_SETTING = "project.yaml: pretext.feature"


@dataclass(frozen=True)
class Held:
    """One example's values of a transformed feature: dtype and shape, None where that varies."""

    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape) if self.shape is not None else 'of varying length'}"

    @property
    def is_number(self) -> bool:
        """Tells whether it is a number, or several, for each example."""
        return self.dtype in ("float32", "int64") and self.shape is not None


def held_by(spec: Mapping[str, Any]) -> dict[str, Held]:
    """Tells what the features of a parsing spec hold."""
    import tensorflow as tf

    return {
        name: Held(
            kind.dtype.name, tuple(kind.shape) if isinstance(kind, tf.io.FixedLenFeature) else None
        )
        for name, kind in spec.items()
    }


def choose_features(settings: PretextSettings, features: Mapping[str, Held]) -> list[str]:
    """Chooses the features that the pretext is about.

    Args:
        settings: Which pretext, and which feature if that is set.
        features: The transformed features that the model reads.

    Raises:
        ProjectError: None fits the pretext, several do, or the one that is set does not.
    """
    if settings.task == "masked_features":
        return _choose_columns(settings, features)
    fits, what = _RULES[settings.task]
    fitting = [name for name, held in features.items() if fits(held)]
    if settings.feature is None and len(fitting) == 1:
        return fitting
    if settings.feature in fitting:
        return [settings.feature]
    expected = (
        f"must name a feature that the model reads and that holds {what}, for pretext.task: "
        f"{settings.task}"
    )
    if settings.feature is None:
        expected += ", unless only one does"
    near = difflib.get_close_matches(settings.feature or "", fitting, 1)
    raise ProjectError(
        where=_SETTING,
        expected=expected,
        received=f"{settings.feature or 'none'}, and the features {_listed(features)}",
        remedy=f"Did you mean `{near[0]}`?"
        if near
        else f"Name one of {', '.join(fitting)}."
        if fitting
        else _NONE,
    )


def make_pretext(
    settings: PretextSettings, names: list[str], features: Mapping[str, Held], pool: Pool
) -> Pretext:
    """Makes the pretext about these features, with what it needs to know of their values.

    Raises:
        ProjectError: The values do not fit.
    """
    name, shape = names[0], features[names[0]].shape or ()
    image = image_shape(shape)
    if settings.task == "rotation" and image is not None:
        return Rotation(name, image)
    spreads = pool.spreads(names)
    if settings.task == "masked_image" and image is not None:
        return MaskedImage(name, image, settings.share, spreads[name].mean, spreads[name].deviation)
    if settings.task == "masked_words":
        words = min(int(spreads[name].greatest) + 1, MOST_WORDS)
        if words <= NO_WORD + 1:
            raise ProjectError(
                where=_SETTING,
                expected="must name a feature with words, which are numbers from 1",
                received=f"{name}, all of whose values are 0 or less",
                remedy="Name another one.",
            )
        return MaskedWords(name, shape[0], words, settings.share)
    columns = [_column(name, features[name], spreads) for name in names]
    return MaskedFeatures(tuple(columns), settings.share)


def _column(name: str, held: Held, spreads: Mapping[str, Any]) -> Any:
    import math

    return column_of(name, math.prod(held.shape or ()), held.dtype == "int64", spreads[name])


def _choose_columns(settings: PretextSettings, features: Mapping[str, Held]) -> list[str]:
    if settings.feature is not None:
        raise ProjectError(
            where=_SETTING,
            expected="must not be set for pretext.task: masked_features, which is about all "
            "features",
            received=settings.feature,
            remedy="Leave it out.",
        )
    numbers = [name for name, held in features.items() if held.is_number]
    if len(numbers) < 2:
        raise ProjectError(
            where="project.yaml: pretext.task",
            expected="masked_features needs two features of numbers or more that the model reads",
            received=_listed(features),
            remedy="Choose another task, or none.",
        )
    return numbers


def _listed(features: Mapping[str, Held]) -> str:
    return ", ".join(f"{name} ({held})" for name, held in features.items()) or "none"


def _is_image(held: Held) -> bool:
    return held.is_number and image_shape(held.shape or ()) is not None


def _is_square(held: Held) -> bool:
    image = image_shape(held.shape or ()) if held.is_number else None
    return image is not None and image.height == image.width


def _is_text(held: Held) -> bool:
    return (
        held.dtype == "int64"
        and held.shape is not None
        and len(held.shape) == 1
        and held.shape[0] > 1
    )


_NONE = "Return such a feature from preprocessing_fn, or choose another pretext.task."
_RULES: dict[str, tuple[Callable[[Held], bool], str]] = {
    "rotation": (_is_square, "square images ([side, side, channels] or [side * side])"),
    "masked_image": (
        _is_image,
        "images ([height, width, channels], or [side * side] of square ones)",
    ),
    "masked_words": (_is_text, "words (whole numbers [length])"),
}
