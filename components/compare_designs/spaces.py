"""The design spaces that the user's module names, and the models in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError, describe_error
from perennial.project import Project
from perennial.storage.digests import digest_value
from perennial.training.keras_internals import reset_layer_names
from perennial.training.losses import task_outputs
from perennial.training.model_builder import check_output, refuse_own_training
from perennial.training.model_call import call_model
from perennial.training.transformed_features import TransformedFeatures
from perennial.user_module import function_line, user_line

if TYPE_CHECKING:
    import keras
    import keras_tuner

FUNCTION = "design_spaces"
_REMEDY = 'Return a dictionary such as {"plain": build_plain, "residual": build_residual}.'
_PROBED = 64

Values = dict[str, int | float | str | bool]


@dataclass(frozen=True)
class DesignSpace:
    """A space of models: `builder(transform_output, hp)` builds one, and asks `hp` what varies."""

    name: str
    builder: Callable[[Any, Any], Any]
    project: Project
    features: TransformedFeatures

    @property
    def place(self) -> str:
        """Gives the builder's place in the user's file."""
        return function_line(self.builder)

    def build(self, values: Mapping[str, Any]) -> keras.Model:
        """Builds one model of the space; what `values` do not name has its default.

        Raises:
            ProjectError: It does not build, with the user's line, or is no Keras model that can be
                trained.
        """
        import keras

        try:
            model = self._call(_with_values(values))
        except Exception as error:  # whatever the user's code raises
            raise ProjectError(
                where=f"{user_line(self.project.module_path, error)}: {FUNCTION}: {self.name}",
                expected="must build a model",
                received=describe_error(error),
                remedy="Correct it.",
            ) from error
        if not isinstance(model, keras.Model):
            raise ProjectError(
                where=self.place,
                expected="must return a Keras model",
                received=type(model).__name__,
                remedy="Return keras.Model(inputs, outputs).",
            )
        refuse_own_training(self.project, model, self.place)
        self._check(model)
        if not model.trainable_variables:
            raise ProjectError(
                where=self.place,
                expected="must return a model with weights to train",
                received=f"a {type(model).__name__} without trainable weights",
                remedy="Add a layer with weights, or unfreeze one.",
            )
        return model

    def declared(self, values: Mapping[str, Any]) -> list[Any]:
        """Gives the hyperparameters that apply when the builder gets these values.

        Where it fails, what it asked for until then: building the sample will tell the failure.
        """
        hp = _with_values(values)
        with suppress(Exception):  # whatever the user's code raises
            self._call(hp)
        return [asked for asked in hp.space if hp.is_active(asked)]

    def _call(self, hp: keras_tuner.HyperParameters) -> Any:
        reset_layer_names()
        return self.builder(self.features.transform_output(), hp)

    def _check(self, model: keras.Model) -> None:
        """Tries the model on some examples."""
        features, _ = self.features.sample("train", _PROBED)
        try:
            outputs = task_outputs(call_model(model, features, training=False), self.project.tasks)
        except Exception as error:
            raise ProjectError(
                where=self.place,
                expected="must give an output for each task from the features "
                f"{', '.join(sorted(features))}",
                received=describe_error(error),
                remedy="Correct it.",
            ) from error
        for task in self.project.tasks:
            classes = self.features.classes(task) if task.is_classes else None
            check_output(self.place, task, outputs[task.name], classes)


def find_spaces(project: Project, features: TransformedFeatures) -> list[DesignSpace]:
    """Finds the spaces that the module's `design_spaces()` names, in its order.

    Raises:
        ProjectError: It has no such function, or the function fails or names less than two
            builders.
    """
    module = project.module()
    function = getattr(module, FUNCTION, None)
    if function is None:
        raise ProjectError(
            where=project.module_path.name,
            expected=f"must define `{FUNCTION}` as designs.compare is true",
            received="no such function",
            remedy=f"Define it, or set designs.compare: false. {_REMEDY}",
        )
    try:
        named = function()
    except Exception as error:
        raise ProjectError(
            where=f"{user_line(project.module_path, error)}: {FUNCTION}",
            expected="must name the design spaces",
            received=describe_error(error),
            remedy=_REMEDY,
        ) from error
    if not isinstance(named, dict) or any(not callable(builder) for builder in named.values()):
        raise ProjectError(
            where=function_line(function),
            expected="must return functions by name",
            received=type(named).__name__ if not isinstance(named, dict) else _not_callable(named),
            remedy=_REMEDY,
        )
    if len(named) < 2:
        raise ProjectError(
            where=function_line(function),
            expected="must name two spaces or more",
            received=", ".join(map(str, named)) or "none",
            remedy=_REMEDY,
        )
    return [DesignSpace(str(name), builder, project, features) for name, builder in named.items()]


class Sampler:
    """Draws random values of all hyperparameters that one model of a space asks for."""

    def __init__(self, space: DesignSpace) -> None:
        self._space = space
        self._first = space.declared({})
        self._drawn: dict[str, Values] = {}

    def draw(self, seed: int) -> Values:
        """Draws values, the same for the same seed.

        What is asked for only because of another value is drawn as well.
        """
        first = str(sorted(_draw(self._first, seed).items()))
        if (
            first in self._drawn
        ):  # building costs more than drawing, and small spaces are drawn from often
            return self._drawn[first]
        known, declared, values = list[Any](), self._first, Values()
        while new := [hp for hp in declared if not any(_same(hp, other) for other in known)]:
            known += new
            values = _draw(known, seed)
            declared = self._space.declared(values)
        used = {hp.name: values[hp.name] for hp in declared}
        if len(known) == len(self._first):
            self._drawn[first] = used
        return used


def _draw(known: list[Any], seed: int) -> Values:
    hps = _with_values({})
    for hp in known:
        hps.merge([hp])
        if hps.is_active(hp):
            # Its own seed: the value does not depend on what else is asked for.
            own = digest_value([seed, hp.name, _conditions(hp)])
            hps.values[hp.name] = hp.random_sample(int(own[:12], 16))
    return dict(hps.values)


def _with_values(values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp


def _same(hp: Any, other: Any) -> bool:
    return bool(hp.name == other.name and _conditions(hp) == _conditions(other))


def _conditions(hp: Any) -> list[Any]:
    conditions: list[Any] = hp.get_config()["conditions"]
    return conditions


def _not_callable(named: Mapping[Any, Any]) -> str:
    name, value = next((name, value) for name, value in named.items() if not callable(value))
    return f"{type(value).__name__} for `{name}`"
