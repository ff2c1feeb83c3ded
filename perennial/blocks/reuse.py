"""Transfer learning: a trained stem and learner under new tasks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.blocks.arguments import checked_names
from perennial.errors import ProjectError, describe_error

if TYPE_CHECKING:
    import keras

_WHERE = "blocks.reuse_learner"


def reuse_learner(
    model: keras.Model,
    trained: keras.Model | Mapping[str, Any] | str | Path,
    layers: Sequence[str] = ("stem", "learner"),
    frozen: bool = True,
) -> keras.Model:
    """Puts a trained learner under a new model's tasks.

        model = blocks.assemble(stem, blocks.residual_groups(), blocks.binary("is_even"))
        return blocks.reuse_learner(model, Path(__file__).parent / "digits_model")

    Args:
        model: The new model, just assembled; its stem and learner have the arguments that the
            trained ones have.
        trained: A Keras model in memory; weights by path, {path: array}; or the path of an exported
            SavedModel, or of an `.npz` file with such weights.
        layers: Names of the layers whose weights are taken.
        frozen: These layers do not learn any more, and run as in inference: no dropout, no new
            statistics. If not, training goes on from their weights (fine-tuning).

    Returns:
        The new model, changed in place.

    Raises:
        ProjectError: There is no trained model at the path, one of the two models lacks a layer, or
            a layer's weights do not fit.
        ValueError: The layers are no names.

    Source: Yosinski et al. 2014, "How transferable are features in deep neural networks?"
    """
    names = checked_names(
        "reuse_learner", "layers", [layers] if isinstance(layers, str) else layers
    )
    weights = _read(trained)
    there, here = _first_parts(weights), [layer.name for layer in model.layers]
    chosen = []
    for name in names:
        if name not in here:
            raise _no_layer(name, here, "the new model")
        layer = model.get_layer(name)
        if layer.weights and name not in there:
            raise _no_layer(name, there, "the trained model")
        chosen.append((layer, _fitting(layer, weights)))
    # Only now, so that a model that does not fit is left as it was.
    for layer, values in chosen:
        for variable in layer.weights:
            variable.assign(values[variable.path])
        layer.trainable = not frozen
    return model


def _read(trained: Any) -> Mapping[str, Any]:
    from perennial.export.contract import EXTRA
    from perennial.training.artifacts import WEIGHTS_FILE
    from perennial.training.weights import load_weights, weights_of

    if isinstance(trained, Mapping):
        return trained
    if not isinstance(trained, str | Path):
        return weights_of(trained)
    path = Path(trained)
    try:
        return load_weights(path if path.suffix == ".npz" else path / EXTRA / WEIGHTS_FILE)
    except (OSError, ValueError) as error:
        raise ProjectError(
            where=f"{_WHERE}: {path}",
            expected="must be a SavedModel that Perennial exported, or an .npz file of its weights",
            received=describe_error(error),
            remedy="Name the folder that holds saved_model.pb.",
        ) from None


def _fitting(layer: keras.Layer, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Gives the trained weights of one layer by path, all of which must fit."""
    trained = {path: array for path, array in weights.items() if path.split("/")[0] == layer.name}
    required = {variable.path: tuple(variable.shape) for variable in layer.weights}
    wrong = [
        f"{path} is {_shape(trained, path)} there and {_shape(required, path)} here"
        for path in {**required, **trained}
        if path not in trained
        or path not in required
        or tuple(trained[path].shape) != required[path]
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ProjectError(
            where=f"{_WHERE}: {layer.name}",
            expected="must have the weights that it was trained with",
            received=f"{wrong[0]}{more}",
            remedy="Build it with the arguments that it had then, or leave it out of `layers`.",
        )
    return trained


def _shape(shapes: Mapping[str, Any], path: str) -> str:
    if path not in shapes:
        return "missing"
    return str(list(getattr(shapes[path], "shape", shapes[path])))


def _first_parts(weights: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path.split("/")[0] for path in weights))


def _no_layer(name: str, names: Iterable[str], whose: str) -> ProjectError:
    nearest = sorted(names, key=lambda known: -difflib.SequenceMatcher(None, name, known).ratio())
    near = difflib.get_close_matches(name, nearest, 1)
    remedy = f"Did you mean `{near[0]}`?" if near else "Name one of them in `layers`."
    expected = f"must name layers of {whose} ({', '.join(nearest) or 'none'})"
    return ProjectError(f"{_WHERE}: layers", expected, name, remedy)
