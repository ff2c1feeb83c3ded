"""Compares models with the champion on the same examples, with paired intervals.

Intervals that are read together are corrected for their number. Everything is a function of
arrays, so that it can be tried on simulated models thousands of times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perennial.evaluation.bootstrap import (
    Gain,
    Interval,
    Reweigh,
    divide,
    effective_number,
    gain_interval,
    mean_interval,
    per_interval,
)
from perennial.evaluation.definedness import why_no_interval, why_undefined
from perennial.evaluation.groups import Group
from perennial.evaluation.prediction_table import Array
from schemas.project import Metric
from schemas.records import CANDIDATE, OVERALL, SERVING_DISTRIBUTION, Difference

# Below this probability a log loss says how the model clips, not how wrong it is.
_LEAST_PROBABILITY = 1e-7
# Metrics of which no difference is larger than 1.
_SHARES: frozenset[Metric] = frozenset({"accuracy", "auc"})


@dataclass(frozen=True)
class Pair:
    """The predictions of a model and of the champion on the same examples.

    Attributes:
        model: Class probabilities, float [n, classes], or values, float [n].
        champion: The same of the champion; it may know other classes.
        labels: Classes, int [n], or values, float [n].
        metric: What they are compared by.
        clusters: Which cluster each example belongs to [n]; None: each stands for itself.
        weights: How much each example counts, float [n], at least 0; None: all the same.
    """

    model: Array
    champion: Array
    labels: Array
    metric: Metric
    clusters: Array | None = None
    weights: Array | None = None

    def on(self, rows: Array) -> Pair:
        """Gives the predictions on some examples, by their row numbers."""
        clusters = None if self.clusters is None else self.clusters[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Pair(
            self.model[rows],
            self.champion[rows],
            self.labels[rows],
            self.metric,
            clusters,
            weights,
        )

    def interval(
        self, confidence: float, weights: Array | None = None, reweigh: Reweigh | None = None
    ) -> Interval:
        """Gives the gain with its paired interval; positive is better.

        Args:
            confidence: Of this one interval; see `per_interval`.
            weights: Weight of each example, float [n]; None: the pair's own.
            reweigh: Gives the weights of resampled examples; None: the weights are taken as they
                are.
        """
        weights = self.weights if weights is None else weights
        if self.metric in OF_ALL_EXAMPLES:
            gain = self._interval_of_all(confidence, weights, reweigh)
        else:
            gains = example_gains(self.model, self.champion, self.labels, self.metric)
            if reweigh is None:
                gain = mean_interval(gains, confidence, self.clusters, weights)
            else:
                gain = gain_interval(
                    _mean(gains), len(gains), confidence, self.clusters, weights, reweigh
                )
            if self.metric == "accuracy":
                gain = self._with_unseen(gain, gains, confidence, weights)
        if self.metric not in _SHARES:
            return gain
        return Interval(gain.value, *(float(np.clip(end, -1.0, 1.0)) for end in gain[1:]))

    def _with_unseen(
        self, gain: Interval, gains: Array, confidence: float, weights: Array | None
    ) -> Interval:
        """Widens an interval as far as outcomes that no example has could move the gain.

        Where no example is lost and the interval does not lie above 0, or the reverse, resampling
        knows nothing of losses: of 20 examples on which both models agree it gives an interval
        from 0 to 0, whatever they do elsewhere.

        Source: Hanley and Lippman-Hand 1983, "If Nothing Goes Wrong, Is Everything All Right?"
        (the exact bound of a share that was never seen; at 95% about 3 / n).
        """
        if not math.isfinite(gain.low):
            return gain
        sizes = np.ones(len(gains)) if weights is None else weights
        if self.clusters is not None:
            sizes = np.bincount(np.unique(self.clusters, return_inverse=True)[1], sizes)
        unseen = 1 - ((1 - confidence) / 2) ** (1 / effective_number(sizes))
        low = min(gain.low, -unseen) if gain.low <= 0 <= gains.min() else gain.low
        high = max(gain.high, unseen) if gains.max() <= 0 <= gain.high else gain.high
        return Interval(gain.value, low, high)

    def value(self) -> float:
        """Gives the gain without an interval."""
        weights = np.ones(len(self.labels)) if self.weights is None else self.weights
        if self.metric in OF_ALL_EXAMPLES:
            gain = self._gain_of_all()
        else:
            gain = _mean(example_gains(self.model, self.champion, self.labels, self.metric))
        return float(gain(weights[np.newaxis])[0])

    def _gain_of_all(self) -> Gain:
        metric_of = OF_ALL_EXAMPLES[self.metric]
        ours, theirs = metric_of(self.model, self.labels), metric_of(self.champion, self.labels)
        return lambda counts: ours(counts) - theirs(counts)

    def _interval_of_all(
        self, confidence: float, weights: Array | None, reweigh: Reweigh | None
    ) -> Interval:
        # It rests on the examples of the rarest class: of one alone, resampling knows no spread.
        units = [self._units(self.labels == label) for label in np.unique(self.labels)]
        return gain_interval(
            self._gain_of_all(),
            len(self.labels),
            confidence,
            self.clusters,
            weights,
            reweigh,
            min(units, default=0),
        )

    def _units(self, which: Array) -> int:
        return int(which.sum()) if self.clusters is None else len(np.unique(self.clusters[which]))


@dataclass(frozen=True)
class Terms:
    """The terms on which models are compared.

    `repeats` is how often a run may be repeated: each repetition is another chance of the same
    comparison. Groups with fewer than `least_examples` have no interval.
    """

    task: str
    confidence: float
    least_examples: int = 2
    repeats: int = 0


def compare_overall(pair: Pair, terms: Terms) -> Difference:
    """Gives the candidate's gain on all examples; its interval is widened for the repetitions."""
    family = 1 + terms.repeats
    gain = pair.interval(per_interval(terms.confidence, family))
    return _difference(pair, terms, gain, family)


def compare_slices(pair: Pair, terms: Terms, groups: Sequence[Group]) -> list[Difference]:
    """Gives the candidate's gain on each slice and view.

    The intervals of all groups that are large enough hold together.
    """
    family = max(1, sum(len(group.rows) >= terms.least_examples for group in groups))
    confidence = per_interval(terms.confidence, family)
    differences = []
    for group in groups:
        part = pair.on(group.rows)
        small = len(group.rows) < terms.least_examples
        # Of a group that is too small only the value is read: no resample is drawn.
        gain = Interval(part.value(), math.nan, math.nan) if small else part.interval(confidence)
        differences.append(
            _difference(
                part, terms, gain, 1 if small else family, slice=group.name, view=group.view
            )
        )
    return differences


def compare_instances(pairs: Mapping[str, Pair], terms: Terms) -> list[Difference]:
    """Gives each other instance's gain on all examples; all instances' intervals hold together."""
    family = len(pairs) + 1
    confidence = per_interval(terms.confidence, family)
    return [
        _difference(pair, terms, pair.interval(confidence), family, model=name)
        for name, pair in pairs.items()
    ]


def compare_serving(
    pair: Pair, terms: Terms, weights: Array, reweigh: Reweigh | None, decides: bool = True
) -> Difference:
    """Gives the candidate's gain on what serving sees: examples count by their weights, float [n].

    Where it `decides`, its interval is widened for the repetitions.
    """
    family = 1 + terms.repeats if decides else 1
    gain = pair.interval(per_interval(terms.confidence, family), weights, reweigh)
    return _difference(pair, terms, gain, family, slice=SERVING_DISTRIBUTION, view=True)


def example_gains(candidate: Array, champion: Array, labels: Array, metric: Metric) -> Array:
    """Gives what the candidate gains over the champion on each example, float64 [n].

    Positive is better. Accuracy: 1 where only the candidate is right, -1 where only the champion
    is. Log loss: the champion's minus the candidate's, in nats. Errors of values: the champion's
    minus the candidate's.

    Args:
        candidate: Class probabilities, float [n, classes], or values, float [n].
        champion: The same of the champion; it may know other classes.
        labels: Classes, int [n], or values, float [n].
        metric: None of `OF_ALL_EXAMPLES`.
    """
    return example_losses(champion, labels, metric) - example_losses(candidate, labels, metric)


def example_losses(predictions: Array, labels: Array, metric: Metric) -> Array:
    """Gives the loss of each example, float64 [n].

    A label that the model does not know has the probability 0.
    """
    if metric == "accuracy":
        return np.asarray(predictions.argmax(axis=1) != labels, dtype=np.float64)
    if metric == "log_loss":
        last = predictions.shape[1] - 1
        right = predictions[np.arange(len(labels)), np.minimum(labels, last)]
        return np.asarray(
            -np.log(np.clip(np.where(labels <= last, right, 0.0), _LEAST_PROBABILITY, 1.0))
        )
    errors: Array = np.abs(np.asarray(predictions, dtype=np.float64) - labels)
    return errors if metric == "mean_absolute_error" else errors**2


def area_of(scores: Array, labels: Array) -> Gain:
    """Makes a function from counts [resamples, n] to areas under the ROC curve [resamples].

    The area of one class alone is NaN. The scores are ranked once, so that thousands of resamples
    take a second. Counts may be weights. Source: Hanley and McNeil 1982 (the area is the share of
    pairs in the right order, ties counting half).

    Args:
        scores: Probability of 1, float [n].
        labels: 0 or 1, [n].
    """
    order = np.argsort(scores, kind="stable")
    ranked, positive = scores[order], labels[order] == 1
    # Of each positive: how many lie before its ties, and how many before their end.
    before, until = (np.searchsorted(ranked, ranked[positive], side) for side in ("left", "right"))

    def area(counts: Array) -> Array:
        sorted_ = counts[:, order].astype(np.float64)
        ones = sorted_[:, positive]
        below = np.cumsum(np.where(positive, 0.0, sorted_), axis=1)
        below = np.concatenate([np.zeros((len(counts), 1)), below], axis=1)
        right = (ones * (below[:, before] + below[:, until])).sum(axis=1) / 2
        pairs = ones.sum(axis=1) * below[:, -1]
        return divide(right, pairs)

    return area


OF_ALL_EXAMPLES: Mapping[Metric, Callable[[Array, Array], Gain]] = {
    "auc": lambda scores, labels: area_of(scores[:, 1], labels),
}
"""Metrics of classes that no single example has: they are measured of all examples together.

Each makes, of class probabilities [n, classes] and labels [n], a function from counts of the
examples to the metric. All others are means of `example_losses`.
"""


def _mean(gains: Array) -> Gain:
    return lambda counts: divide(counts @ gains, counts.sum(axis=1))


def _difference(
    pair: Pair,
    terms: Terms,
    gain: Interval,
    family: int,
    model: str = CANDIDATE,
    slice: str = OVERALL,
    view: bool = False,
) -> Difference:
    reason = ""
    if not all(map(math.isfinite, gain)):
        reason = why_undefined(pair.metric, pair.labels, pair.weights) or why_no_interval(
            pair.metric, pair.labels, pair.clusters
        )
    return Difference(
        metric=pair.metric,
        task=terms.task,
        slice=slice,
        examples=len(pair.labels),
        value=gain.value,
        low=gain.low,
        high=gain.high,
        confidence=terms.confidence,
        model=model,
        view=view,
        family=family,
        clusters=None if pair.clusters is None else len(np.unique(pair.clusters)),
        reason=reason,
    )
