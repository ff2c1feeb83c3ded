"""Label shift: how often each class comes in serving, estimated from what the model predicts there.

Where classes became more or less frequent, but each looks as it did, the predictions q of served
requests are C w: C[i, j] is the share of test examples of class j that are predicted as i, and w[j]
how much more frequent class j is in serving than in the test split. C is not regularised: that
would pull w towards 1, and so the re-weighted metrics towards those of the test split, just where
they differ. Where noise would decide instead, nothing is estimated.

Source: Lipton, Wang and Smola 2018, "Detecting and Correcting for Label Shift with Black Box
Predictors", section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perennial.errors import NotComparedError
from perennial.evaluation.prediction_table import Array

LEAST_OF_CLASS = 10
"""With fewer test examples of a class it is not known what it is predicted as: one of ten more or
less is 10 points."""
LEAST_REQUESTS = 100
"""With fewer requests a class's share may be wrong by 10 points (two standard errors of a half)."""
# By Weyl's inequality noise moves a singular value by at most its own norm. Below twice the noise
# the shares may be wrong by as much as they are: the relative error is up to noise / (singular -
# noise). Source: Golub and Van Loan 2013, "Matrix Computations", section 2.6.
_NOISE_MARGIN = 2.0
_ROUNDING = 1e-6  # what is left of a singular value of 0 is no value


@dataclass(frozen=True)
class ClassShares:
    """Shares of the classes, float64 [classes]: in serving as estimated, and in the test split."""

    served: Array
    tested: Array

    @property
    def weights(self) -> Array:
        """Shares in serving divided by those tested, float64 [classes]; 0 of a class not tested."""
        return np.divide(
            self.served, self.tested, out=np.zeros(len(self.served)), where=self.tested > 0
        )


def estimate_shares(labels: Array, predicted: Array, requested: Array) -> ClassShares:
    """Estimates the classes' shares in serving.

    Args:
        labels: True classes of the test examples, int [n].
        predicted: Their predicted classes, int [n].
        requested: Predicted classes of the served requests, int [requests].

    Raises:
        NotComparedError: There are too few requests or examples, or predictions say too little.
    """
    classes = (
        int(max(labels.max(initial=0), predicted.max(initial=0), requested.max(initial=0))) + 1
    )
    if len(requested) < LEAST_REQUESTS:
        raise NotComparedError(
            f"there are {len(requested)} served requests, fewer than {LEAST_REQUESTS}"
        )
    counts, asked = (
        count_pairs(labels, predicted, classes),
        np.bincount(requested, minlength=classes),
    )
    # A class that is neither in the test split nor predicted in serving is none that serving could
    # hold.
    known = (counts.sum(axis=0) > 0) | (asked > 0)
    few = [place for place in np.flatnonzero(known) if counts[:, place].sum() < LEAST_OF_CLASS]
    if few:
        named = ", ".join(f"{place} ({int(counts[:, place].sum())})" for place in few[:5])
        raise NotComparedError(
            f"classes with fewer than {LEAST_OF_CLASS} test examples, of which serving may have "
            f"many: {named}"
        )
    least, noise = _least_singular(counts[np.ix_(known, known)])
    if least < max(_NOISE_MARGIN * noise, _ROUNDING):
        raise NotComparedError(
            "the predictions tell the classes apart too little: the smallest singular value of the "
            f"confusion matrix is {least:.3f}, and sampling noise alone is {noise:.3f}"
        )
    return solve_shares(counts, asked)


def count_pairs(labels: Array, predicted: Array, classes: int) -> Array:
    """Counts the examples of class j that are predicted as i, float64 [i, j]."""
    pairs = np.bincount(predicted * classes + labels, minlength=classes * classes)
    return pairs.reshape(classes, classes).astype(np.float64)


def solve_shares(counts: Array, asked: Array) -> ClassShares:
    """Finds the shares that explain the requests best, by least squares, none below 0.

    Args:
        counts: As `count_pairs` gives them.
        asked: How often each class was predicted in serving, [classes].

    Raises:
        RuntimeError: The solver does not converge.
    """
    from scipy.optimize import nnls

    each = counts.sum(axis=0)
    served, _ = nnls(_conditional(counts), asked / asked.sum())
    total = served.sum()
    return ClassShares(served / total if total > 0 else served, each / each.sum())


def _conditional(counts: Array) -> Array:
    """Gives the share of each class that is predicted as each other, float64 [predicted, true].

    It is 0 of a class without examples.
    """
    each = counts.sum(axis=0)
    return np.asarray(np.divide(counts, each, out=np.zeros_like(counts), where=each > 0))


def _least_singular(counts: Array) -> tuple[float, float]:
    """Gives the least singular value of the confusion by true class, and the norm of its noise.

    The shares of each true class are taken, so that a rare class does not look like one that cannot
    be told apart.

    Source: Bandeira and van Handel 2016, "Sharp nonasymptotic bounds on the norm of random matrices
    with independent entries" (the norm is about the largest standard deviation of a row plus that
    of a column).
    """
    shares = _conditional(counts)
    variances = shares * (1 - shares) / counts.sum(axis=0)
    noise = np.sqrt(variances.sum(axis=1).max()) + np.sqrt(variances.sum(axis=0).max())
    return float(np.linalg.svd(shares, compute_uv=False)[-1]), float(noise)
