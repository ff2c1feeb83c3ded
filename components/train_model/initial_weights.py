"""Initial weights of an instance: the stabilised draw, or the champion's, shrunk and perturbed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perennial.errors import IntegrityError, RegistryError, TrainingError
from perennial.export.saved_model import read_exported_weights
from perennial.project import Project
from perennial.registry.model_files import verify_model
from perennial.registry.versions import Registry
from perennial.training.weights import Weights, assign_weights, load_weights, weights_of
from schemas.project import PatchSettings
from schemas.records import Champion, Instance

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Start:
    """The beginning of a training: steps of rising learning rate, and what a person should know."""

    weights_from: Literal["draw", "champion"]
    warm_up_steps: int = 0
    notes: list[str] = field(default_factory=list)


def set_starting_weights(
    model: keras.Model,
    instance: Instance,
    stabilised: Path,
    champion: Champion | None,
    project: Project,
) -> Start:
    """Sets the weights that an instance starts from.

    The model has a fresh draw of the instance's seed.

    An instance that cannot start from the champion starts from the stabilised weights; the notes
    say why.

    Raises:
        IntegrityError: The champion's files are not those that were evaluated.
        TrainingError: The stabilised weights cannot be read.
    """
    if instance.start == "cold":
        return Start("draw", notes=_set_stabilised(model, stabilised))
    weights, why = _champion_weights(project, champion)
    if weights is not None:
        differs = _difference(weights_of(model), weights)
        if differs is None:
            patch(model, weights, project.settings.patch)
            return Start("champion", project.settings.patch.warm_up_steps)
        why = f"{_named(champion)} could not be patched: {differs}"
    notes = [f"{why}; started from the stabilised weights", *_set_stabilised(model, stabilised)]
    return Start("draw", notes=notes)


def patch(model: keras.Model, champion: Weights, settings: PatchSettings) -> None:
    """Sets trainable weights to `shrink * champion + perturb * draw`, others to the champion's.

    Source: Ash and Adams 2020, "On Warm-Starting Neural Network Training", section 4 (shrink,
    perturb, repeat).
    """
    fresh = weights_of(model)
    trainable = {id(variable) for variable in model.trainable_variables}
    trains = [id(variable) in trainable for variable in model.weights]
    mixed = {
        name: settings.shrink * champion[name] + settings.perturb * draw
        if trained
        else champion[name]
        for (name, draw), trained in zip(fresh.items(), trains, strict=True)
    }
    assign_weights(model, mixed)


def champion_folder(project: Project, champion: Champion) -> Path:
    """Gives the folder of the champion's SavedModel on this machine, verified.

    Raises:
        IntegrityError: Its files are not those that were evaluated.
        RegistryError: The registry cannot be reached or does not hold it.
    """
    registry = Registry(project)
    folder = registry.fetch(registry.version(champion.version))
    verify_model(folder, champion.digest)
    return folder


def _set_stabilised(model: keras.Model, file: Path) -> list[str]:
    try:
        assigned = assign_weights(model, load_weights(file))
    except (OSError, ValueError) as error:
        raise TrainingError(
            where=f"stabilised weights {file}",
            expected="must be readable",
            received=error,
            remedy="Remove it and run again, so that the weights are stabilised anew.",
        ) from error
    if assigned.whole:
        return []
    name, why = next(iter(assigned.left.items()))
    return [
        f"{assigned} came from the stabilised draw, as the tuned model differs: `{name}` is {why}"
    ]


def _champion_weights(project: Project, champion: Champion | None) -> tuple[Weights | None, str]:
    """Reads the champion's weights; gives None and the reason where there are none."""
    if champion is None:
        return None, "there is no champion to patch yet"
    try:
        folder = champion_folder(project, champion)
    except RegistryError as error:
        return None, f"{_named(champion)} could not be patched: {error}"
    try:
        return read_exported_weights(folder), ""
    except (
        IntegrityError
    ) as error:  # it is what was evaluated, but was exported without its weights
        return None, f"{_named(champion)} could not be patched: {error}"


def _named(champion: Champion | None) -> str:
    return f"champion version {champion.version}" if champion else "the champion"


def _difference(here: Weights, there: Weights) -> str | None:
    """Names the first weight that differs between the model and the champion."""
    for name in {**here, **there}:
        if name not in there:
            return f"it has no `{name}`"
        if name not in here:
            return f"its `{name}` is not in the model"
        if here[name].shape != there[name].shape:
            return f"`{name}` is {list(there[name].shape)} there and {list(here[name].shape)} here"
    return None
