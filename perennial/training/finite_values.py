"""NaN and infinity among the transformed values: found before a model is blamed for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ProjectError, TrainingError
from perennial.project import Project
from perennial.training.transformed_features import Features, TransformedFeatures
from perennial.user_module import function_line
from schemas.records import NotFinite

if TYPE_CHECKING:
    import tensorflow as tf

_SPLITS = ("train", "eval")
_TRIED = 64  # examples
_AT_ONCE = 4096
_SHOWN = 3  # features


def check_finite(
    project: Project, features: TransformedFeatures, predict: Callable[[Features], Any]
) -> None:
    """Checks that the labels are finite, and that the model takes the features that are not.

    A model may mask NaN itself. So where the transform counted some, it is tried on examples that
    hold them.

    Raises:
        ProjectError: Some labels are NaN or infinite; or some features are, and the model makes NaN
            or infinity of them.
    """
    counted = read_not_finite(features)
    if counted.examples.keys() & {*_labels(project), *features.weight_features()}:
        raise not_finite_error(project, counted)
    if counted.examples:
        outputs = predict(_sample(features, counted.examples))
        values = outputs.values() if isinstance(outputs, Mapping) else [outputs]
        if not all(np.isfinite(np.asarray(value, np.float64)).all() for value in values):
            raise not_finite_error(project, counted)


@contextmanager
def naming_not_finite(project: Project, features: TransformedFeatures) -> Iterator[None]:
    """Raises, in place of a training that failed, the error of transformed values not finite.

    For a `run_fn`, whose model cannot be tried before it is trained.
    """
    try:
        yield
    except TrainingError as error:
        counted = read_not_finite(features)
        if counted.examples:
            raise not_finite_error(project, counted) from error
        raise


def read_not_finite(features: TransformedFeatures) -> NotFinite:
    """Reads what the transform counted; nothing where an earlier version of the product ran."""
    try:
        return NotFinite.read(features.folder)
    except FileNotFoundError:
        return NotFinite(rows=0, examples={})


def not_finite_error(project: Project, counted: NotFinite) -> ProjectError:
    """Makes the error that names the labels and features, the worst first."""
    labels = _labels(project)
    worst = sorted(counted.examples.items(), key=lambda item: (item[0] not in labels, -item[1]))
    shown = [
        f"{'the label ' if name in labels else ''}`{name}` is NaN or infinite in {examples} of "
        f"{counted.rows} examples"
        for name, examples in worst[:_SHOWN]
    ]
    more = f" and {len(worst) - _SHOWN} more features" if len(worst) > _SHOWN else ""
    return ProjectError(
        function_line(project.module().preprocessing_fn),
        "must give finite numbers",
        f"{', '.join(shown)}{more}",
        "Replace such values there, as in tf.where(tf.math.is_finite(x), x, 0.0), or set the rows "
        "aside by a rule in expectations.json.",
    )


def _labels(project: Project) -> set[str]:
    return {task.label for task in project.tasks}


def _sample(features: TransformedFeatures, names: Mapping[str, int]) -> Features:
    """Reads some examples in which one of these features is not finite."""
    import tensorflow as tf

    chosen: list[bytes] = []
    for split in _SPLITS:
        for records in features.records(split).batch(_AT_ONCE) if features.files(split) else ():
            parsed, _ = features.parse(records)
            rows = np.zeros(len(records), bool)
            for name in names.keys() & parsed.keys():
                rows[_rows_not_finite(parsed[name])] = True
            chosen += records.numpy()[rows][: _TRIED - len(chosen)].tolist()
            if len(chosen) == _TRIED:
                break
    return features.parse(tf.constant(chosen))[0]


def _rows_not_finite(values: tf.Tensor | tf.SparseTensor | tf.RaggedTensor) -> Any:
    """Gives the positions of the examples with a value that is not finite."""
    import tensorflow as tf

    if isinstance(values, tf.RaggedTensor):
        values = values.to_sparse()
    if isinstance(values, tf.SparseTensor):
        return values.indices.numpy()[~np.isfinite(values.values.numpy()), 0]
    array = values.numpy()
    return np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
