"""The metric's loss without features: permutation importance, and dropping the cheapest.

Sources: Breiman 2001, "Random Forests", section 10; Fisher, Rudin and Dominici 2019, "All Models
are Wrong, but Many are Useful" (model reliance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from components.probe_model.probed_model import ProbedModel
from perennial.evaluation.bootstrap import Interval, gain_interval, mean_interval
from perennial.evaluation.comparison import OF_ALL_EXAMPLES, example_gains
from perennial.evaluation.prediction_table import Array
from schemas.project import Metric
from schemas.records import DroppedFeatures, FeatureImportance

CONFIDENCE = 0.95
"""Of the interval of each loss, over the examples (or clusters) that there might have been."""
_SEED = 20170
_MOST_DROPS = 12


def measure_importances(
    model: ProbedModel, metric: Metric, repeats: int, costs: Mapping[str, float]
) -> list[FeatureImportance]:
    """Measures the metric's loss when each column is permuted, the greatest first.

    Args:
        model: The model and the examples.
        metric: Of which is lost.
        repeats: Permutations; the same ones for every column.
        costs: What some of the columns cost for one example.
    """
    importances = []
    for name in model.columns:
        lost = lose(model, metric, [name], repeats)
        importances.append(
            FeatureImportance(
                feature=name, loss=lost.value, low=lost.low, high=lost.high, cost=costs.get(name)
            )
        )
    return sorted(importances, key=lambda row: -row.loss)


def drop_cheapest(
    model: ProbedModel, metric: Metric, repeats: int, importances: Sequence[FeatureImportance]
) -> list[DroppedFeatures]:
    """Measures the loss when the features worth least for their cost are permuted: one, two, ...

    A feature without a cost saves nothing, and stays. At most the first 12 steps are measured.
    """
    costs = {row.feature: row.cost for row in importances if row.cost}
    worth = {row.feature: row.loss / row.cost for row in importances if row.cost}
    names = sorted(worth, key=lambda name: (worth[name], name))
    steps = [names[: count + 1] for count in range(min(len(names), _MOST_DROPS))]
    drops = []
    for features in steps:
        lost = lose(model, metric, features, repeats)
        saved = sum(costs[name] for name in features)
        drops.append(
            DroppedFeatures(
                features=features, saved=saved, loss=lost.value, low=lost.low, high=lost.high
            )
        )
    return drops


def lose(model: ProbedModel, metric: Metric, features: list[str], repeats: int) -> Interval:
    """Measures a metric's mean loss when columns are permuted together; with its interval.

    The columns stay together: in each permutation an example gets all of them from one other.
    Positive: the model needs them. An AUC that is not defined, of one class, is NaN.
    """
    random = np.random.default_rng(_SEED)
    orders = [random.permutation(len(model.labels)) for _ in range(repeats)]
    permuted = [model.permuted(features, order) for order in orders]
    if metric in OF_ALL_EXAMPLES:
        return _lost_of_all(model, metric, permuted)
    lost = [example_gains(model.predictions, other, model.labels, metric) for other in permuted]
    return mean_interval(np.mean(lost, axis=0), CONFIDENCE, model.clusters)


def _lost_of_all(model: ProbedModel, metric: Metric, permuted: Sequence[Array]) -> Interval:
    metric_of = OF_ALL_EXAMPLES[metric]
    own = metric_of(model.predictions, model.labels)
    others = [metric_of(other, model.labels) for other in permuted]

    def lost(counts: Array) -> Array:
        value = own(counts)
        return np.asarray(np.mean([value - other(counts) for other in others], axis=0))

    rarest = int(np.unique(model.labels, return_counts=True)[1].min())
    return gain_interval(lost, len(model.labels), CONFIDENCE, model.clusters, effective=rarest)
