"""Measures how well the latent vector predicts a feature, beside a shuffled one.

A linear model predicts the feature from the latent vector, on examples that it was not fitted on.
What the label itself tells of the feature does not count against the model: the shuffles keep it.
Labels that are values are hardly ever equal: there, what a smooth function of the label leaves of
the feature is shuffled among examples with neighbouring labels. Sources: Alain and Bengio 2016,
"Understanding intermediate layers using linear classifier probes"; Anderson and Robinson 2001,
"Permutation tests for linear models" (residuals under the reduced model).
"""

from __future__ import annotations

import numpy as np

from components.probe_model.probed_model import ProbedModel
from perennial.evaluation.prediction_table import Array

EXPLAINED = "share of variance explained"
_FOLDS = 5
_PENALTIES = tuple(10.0**power for power in range(-1, 5))
# Rarer names than these are one.
_MOST_NAMES = 20
# Examples whose values lie next to each other, so that their labels are all but equal.
_NEIGHBOURS = 10
# Powers of the label's rank, which a smooth function of it is made of.
_CURVE = 5


def variance_explained(
    model: ProbedModel, values: Array, is_number: bool, repeats: int, random: np.random.Generator
) -> tuple[float, Array]:
    """Gives the share of the feature's variance that is explained, and that of shuffles [repeats].

    Ranks stand for numbers, and one indicator for each name, both without what a regression's label
    explains of them. Below 0: a worse prediction than the mean.

    Args:
        model: With its latent vectors.
        values: Of the feature, [n].
        is_number: Whether they have an order.
        repeats: How many shuffles.
        random: Draws the shuffles.
    """
    assert model.latent is not None
    is_classes = model.predictions.ndim > 1
    targets = _ranks(values) if is_number else _indicators(values)
    targets = targets if is_classes else _residuals(targets, model.labels)
    alike = _equal_labels(model.labels, is_classes)
    orders = [np.arange(len(values)), *(shuffle_within(alike, random) for _ in range(repeats))]
    shares = explained(model.latent, np.stack([targets[order] for order in orders], axis=1))
    return float(shares[0]), shares[1:]


def effective_examples(values: Array, is_number: bool, labels: Array, is_classes: bool) -> float:
    """Gives how many examples the feature's own part is worth: n / (variance inflation factor).

    That part is what the label leaves of the feature's variance. It is 0 where the label tells the
    feature in every example: then they are one thing, and no probe can tell which of them the
    latent vector knows.

    Source: Kutner, Nachtsheim, Neter and Li 2005, "Applied Linear Statistical Models", section 10.5
    (the variance inflation factor is 1 / (1 - R squared)).

    Args:
        values: Of the feature, [n].
        is_number: Whether they have an order.
        labels: Classes, int [n], or values, float [n].
        is_classes: Which of them.
    """
    targets = _ranks(values) if is_number else _indicators(values)
    if is_classes:
        means = np.stack([targets[labels == label].mean(axis=0) for label in np.unique(labels)])
        left = targets - means[np.unique(labels, return_inverse=True)[1]]
    else:
        left = _residuals(targets, labels)
    return float(
        len(values) * np.square(left).sum() / np.square(targets - targets.mean(axis=0)).sum()
    )


def explained(latent: Array, targets: Array) -> Array:
    """Gives the share of variance that ridge regression explains out of fold, float64 [several].

    Args:
        latent: float [n, d].
        targets: float [n, several, k]; the k columns are predicted together.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    flat = targets.reshape(len(targets), -1)
    wrong, all_ = np.zeros(flat.shape[1]), np.zeros(flat.shape[1])
    for train, test in KFold(_FOLDS, shuffle=True, random_state=0).split(latent):
        ridge = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES, alpha_per_target=True))
        predicted = (
            ridge.fit(latent[train], flat[train]).predict(latent[test]).reshape(len(test), -1)
        )
        wrong += np.square(flat[test] - predicted).sum(axis=0)
        all_ += np.square(flat[test] - flat[train].mean(axis=0)).sum(axis=0)
    shape = targets.shape[1:]
    return np.asarray(1 - wrong.reshape(shape).sum(axis=1) / all_.reshape(shape).sum(axis=1))


def shuffle_within(groups: Array, random: np.random.Generator) -> Array:
    """Gives row numbers [n] that shuffle examples among those of the same group, int [n]."""
    order = np.empty(len(groups), dtype=np.int64)
    order[np.argsort(groups, kind="stable")] = np.lexsort((random.random(len(groups)), groups))
    return order


def _equal_labels(labels: Array, is_classes: bool) -> Array:
    """Numbers the examples, int [n]: the same where labels are equal, or next to each other."""
    if is_classes:
        return labels
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[np.argsort(labels, kind="stable")] = np.arange(len(labels))
    return np.asarray(ranks // _NEIGHBOURS)


def _residuals(targets: Array, labels: Array) -> Array:
    """Gives what a smooth function of the labels (values) leaves of the targets, float64 [n, k].

    Neighbouring labels are not quite equal; a shuffle among them would lose what their difference
    tells.
    """
    ranks = _ranks(labels)[:, 0]
    place = (ranks - ranks.mean()) / max(float(np.ptp(ranks)), 1.0)
    basis = np.stack(
        [labels - labels.mean(), *(place**power for power in range(_CURVE + 1))], axis=1
    )
    fitted, *_ = np.linalg.lstsq(basis, targets, rcond=None)
    return np.asarray(targets - basis @ fitted)


def _ranks(values: Array) -> Array:
    """Ranks the numbers, float64 [n, 1]; missing ones (NaN) come first, equal ones share a rank."""
    from scipy import stats

    known = np.where(np.isnan(values.astype(np.float64)), -np.inf, values)
    return np.asarray(stats.rankdata(known), dtype=np.float64)[:, np.newaxis]


def _indicators(values: Array) -> Array:
    """Marks the name of each example, float64 [n, names]; the rare ones count as one."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    place = np.empty(len(counts), dtype=np.int64)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    kept = np.minimum(place, _MOST_NAMES)[which]
    return np.asarray(np.eye(int(kept.max()) + 1)[kept])
