"""Covariate shift: how much more often serving sees examples like each test example.

Where features came to be distributed otherwise, but the label depends on them as before, each test
example weighs p(x | serving) / p(x | test). A classifier that tells requests from test examples
gives this ratio: it is its odds.

Source: Bickel, Brückner and Scheffer 2009, "Discriminative Learning Under Covariate Shift";
Sugiyama, Suzuki and Kanamori 2012, "Density Ratio Estimation in Machine Learning", chapter 4;
cross-fitting as in Chernozhukov et al. 2018.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perennial.errors import NotComparedError
from perennial.evaluation.prediction_table import Array

Values = Sequence[list[Any] | None]
"""A feature's raw values, a list for each example; None or an empty list where it is missing."""

LEAST_REQUESTS = 100
"""With fewer requests a region that a tenth of them visit is known by a handful."""
LONGEST_VECTOR = 1024
MOST_CATEGORIES = 50
CLIPPED_ABOVE = 0.99
"""Quantile above which weights are cut off: a few huge weights would decide everything."""
_LONGEST_TEXT = 64
# Longer vectors, such as pixels, are represented by so many of their principal components.
_COMPONENTS = 50
_FARTHEST = 5.0  # standard deviations: what lies beyond says no more, and would rule the fit
_FOLDS = 5
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_SEED = 4711


@dataclass(frozen=True)
class DensityRatio:
    """Weights of the test examples, float64 [n] with mean 1, and why features were not used."""

    weights: Array
    unused: dict[str, str] = field(default_factory=dict)


def estimate_ratio(tested: Mapping[str, Values], requested: Mapping[str, Values]) -> DensityRatio:
    """Estimates the weight of each test example.

    Probabilities are those of classifiers that have not seen the example (5 folds), calibrated; how
    strongly they are held back is what tells unseen examples apart best. Weights above their 99th
    percentile are cut off, which leaves the weighted metrics somewhat nearer to the test split's.

    Args:
        tested: Raw values of the test examples by feature, each [n].
        requested: The same of the served requests, each [requests].

    Raises:
        NotComparedError: There are too few requests, or no feature can be used.
    """
    requests = len(next(iter(requested.values()), []))
    if requests < LEAST_REQUESTS:
        raise NotComparedError(f"there are {requests} served requests, fewer than {LEAST_REQUESTS}")
    blocks, unused = [], {}
    for name in tested:
        try:
            blocks.append(encode_feature(tested[name], requested[name]))
        except NotComparedError as reason:
            unused[name] = str(reason)
    blocks = [block for block in blocks if block.shape[1]]
    if not blocks:
        listed = (
            "; ".join(f"`{name}`: {why}" for name, why in unused.items())
            or "every feature is constant"
        )
        raise NotComparedError(f"no feature that clients send can be used ({listed})")
    served = np.repeat([0, 1], [len(next(iter(tested.values()))), requests])
    odds = _unseen_odds(np.concatenate(blocks, axis=1), served)[served == 0]
    weights = np.minimum(odds, np.quantile(odds, CLIPPED_ABOVE))
    return DensityRatio(weights / weights.mean(), unused)


def encode_feature(tested: Values, requested: Values) -> Array:
    """Encodes a feature as standardised numbers, float64 [n + requests, d].

    Numbers come with their squares, as the logarithm of the ratio of two normal densities is
    quadratic; categories and short texts as one column for each of the most frequent; vectors flat.
    A missing value is average, and marked. Constants are left out.

    Raises:
        NotComparedError: Its values cannot be compared.
    """
    for values, whom in ((tested, "test example"), (requested, "request")):
        if not any(values):
            raise NotComparedError(f"no {whom} has it")
    rows = [*tested, *requested]
    kinds = {isinstance(row[0], bytes) for row in rows if row}
    numbers = _encode_text(rows) if kinds == {True} else _encode_numbers(rows)
    missing = np.array([[not row] for row in rows], dtype=float)
    return np.concatenate([numbers, _standardise(missing)], axis=1)


def _encode_text(rows: Values) -> Array:
    longest = max(len(item) for row in rows if row for item in row)
    if longest > _LONGEST_TEXT:
        raise NotComparedError(f"its values are texts or bytes longer than {_LONGEST_TEXT}")
    counts = Counter(item for row in rows if row for item in set(row))
    columns = {item: place for place, (item, _) in enumerate(counts.most_common(MOST_CATEGORIES))}
    present = np.zeros((len(rows), len(columns)))
    for number, row in enumerate(rows):
        present[number, [columns[item] for item in row or () if item in columns]] = 1
    return _standardise(present)


def _encode_numbers(rows: Values) -> Array:
    lengths = {len(row) for row in rows if row}
    if len(lengths) > 1:
        raise NotComparedError(f"its values are lists of {min(lengths)} to {max(lengths)} numbers")
    (length,) = lengths
    if length > LONGEST_VECTOR:
        raise NotComparedError(
            f"its values are vectors of {length} numbers, more than {LONGEST_VECTOR}"
        )
    numbers = np.array([row or [np.nan] * length for row in rows], dtype=np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    means = np.nansum(numbers, axis=0) / np.maximum(np.isfinite(numbers).sum(axis=0), 1)
    numbers = _standardise(np.where(np.isnan(numbers), means, numbers))
    if length == 1:
        return np.concatenate([numbers, _standardise(numbers**2)], axis=1)
    return _principal_components(numbers) if numbers.shape[1] > _COMPONENTS else numbers


def _principal_components(values: Array) -> Array:
    """Gives the strongest component deviation 1 and the others less, in proportion.

    A weak component is more likely noise.
    """
    from sklearn.decomposition import PCA

    few = min(_COMPONENTS, *values.shape)
    components = PCA(few, svd_solver="randomized", random_state=_SEED).fit_transform(values)
    return np.asarray(components / components.std(axis=0).max(), dtype=np.float64)


def _standardise(values: Array) -> Array:
    """Scales columns to mean 0 and deviation 1, cut off at 5; leaves constant ones out."""
    deviations = values.std(axis=0)
    varies = deviations > 1e-9 * np.maximum(1.0, np.abs(values).max(axis=0))
    scaled = (values[:, varies] - values[:, varies].mean(axis=0)) / deviations[varies]
    return np.asarray(np.clip(scaled, -_FARTHEST, _FARTHEST))


def _unseen_odds(inputs: Array, served: Array) -> Array:
    """Estimates p(x | serving) / p(x | test) by classifiers that have not seen the example.

    The odds are float64 [n + requests].
    """
    from sklearn.metrics import log_loss

    candidates = [
        _calibrated(_unseen_logits(inputs, served, strength), served) for strength in _STRENGTHS
    ]
    best = min(candidates, key=lambda probabilities: float(log_loss(served, probabilities)))
    best = np.clip(best, 1e-6, 1 - 1e-6)
    return np.asarray(best / (1 - best) * (served == 0).sum() / (served == 1).sum())


def _unseen_logits(inputs: Array, served: Array, strength: float) -> Array:
    """Gives the log odds that each example is a request, by classifiers of the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    logits, folds = np.empty(len(served)), StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED)
    for seen, unseen in folds.split(inputs, served):
        classifier = LogisticRegression(C=strength, max_iter=500).fit(inputs[seen], served[seen])
        logits[unseen] = classifier.decision_function(inputs[unseen])
    return logits


def _calibrated(logits: Array, served: Array) -> Array:
    """Turns log odds into calibrated probabilities.

    A classifier that was held back, or that learnt noise, is too unsure or too sure.

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(penalty=None).fit(logits[:, np.newaxis], served)
    if fitted.coef_[0, 0] <= 0:  # it tells unseen examples apart no better than chance
        return np.full(len(served), served.mean())
    return np.asarray(fitted.predict_proba(logits[:, np.newaxis])[:, 1])
