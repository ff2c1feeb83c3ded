"""Features that alone give the label away, such as an account number that is given with the label.

A model that reads one is right on every test example and useless in production, where the feature
is not known yet. It is looked for by rules that chance hardly meets, so that it needs no setting:

- Of classes: in the order of the feature's values, the examples of each class lie together, in at
  most twice as many intervals as there are classes; of names, each name has one class. There are at
  least ten examples for each interval or name. (That k of n examples lie in one of two intervals by
  chance has the probability 2 / C(n, k): below 1 in 7,000 for 5 of 20.)
- Of values: examples with the same value have the same label, and a label lies on the line between
  those of the next smaller and the next greater value, but for 0.1% of the labels' variance. Where
  there are so few values that none lies between, or they are names, there are ten examples of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.probe_model.covariates import LEAST_EXAMPLES, Suspect
from perennial.errors import NotComparedError
from perennial.evaluation.prediction_table import Array
from schemas.records import LeakingFeature

_EXAMPLES_OF_A_PART = 10
_PARTS_OF_A_CLASS = 2
# Fewer examples beside the commonest class lie together by chance.
_LEAST_OTHERS = 5
_UNEXPLAINED = 0.001


def find_leaks(columns: Sequence[Suspect], labels: Array, is_classes: bool) -> list[LeakingFeature]:
    """Finds the features of which each alone gives the label away.

    Args:
        columns: Features that the model reads; vectors are passed over.
        labels: Classes, int [n], or values, float [n].
        is_classes: Which of them.

    Raises:
        NotComparedError: There are too few examples, or labels that hardly differ.
    """
    _check_labels(labels, is_classes)
    leaks = []
    for column in columns:
        if column.values.ndim > 1:
            continue
        parts = _count_parts(column, labels) if is_classes else None
        if parts is not None or (not is_classes and _tells_values(column, labels)):
            leaks.append(LeakingFeature(name=column.name, examples=len(labels), parts=parts))
    return leaks


def _check_labels(labels: Array, is_classes: bool) -> None:
    if len(labels) < LEAST_EXAMPLES:
        raise NotComparedError(f"{len(labels)} examples are too few (at least {LEAST_EXAMPLES})")
    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < 2:
        raise NotComparedError(f"all {len(labels)} examples have the same label")
    others = len(labels) - int(counts.max())
    if is_classes and others < _LEAST_OTHERS:
        raise NotComparedError(f"{others} examples beside the commonest class are too few")


def _count_parts(column: Suspect, labels: Array) -> int | None:
    """Counts the parts of a feature's values that each hold examples of one class, int [n].

    None: some value has several classes, or there are too many parts to rule out chance.
    """
    different, places = np.unique(column.values, return_inverse=True)
    most = len(labels) // _EXAMPLES_OF_A_PART
    pairs = np.unique(np.stack([places, labels], axis=1), axis=0)
    if len(pairs) > len(different):
        return None
    if not column.is_number:
        return len(pairs) if len(pairs) <= most else None
    parts = 1 + int(np.count_nonzero(np.diff(pairs[:, 1])))
    classes = len(np.unique(labels))
    return parts if parts <= min(most, _PARTS_OF_A_CLASS * classes) else None


def _tells_values(column: Suspect, labels: Array) -> bool:
    """Tells whether labels that are values, float [n], follow from a feature's."""
    different, places, counts = np.unique(column.values, return_inverse=True, return_counts=True)
    means = np.bincount(places, labels) / counts
    errors = np.square(labels - means[places])
    if column.is_number and len(different) > 2:
        # Between its neighbours: a value that stands alone says nothing of itself.
        points = different.astype(np.float64)
        share = (points[1:-1] - points[:-2]) / (points[2:] - points[:-2])
        apart = means[1:-1] - (1 - share) * means[:-2] - share * means[2:]
        errors = errors + np.square([0.0, *apart, 0.0])[places]
    elif len(different) > len(labels) // _EXAMPLES_OF_A_PART:
        return False
    return float(errors.mean()) <= _UNEXPLAINED * float(np.var(labels))
