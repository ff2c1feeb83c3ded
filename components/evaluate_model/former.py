"""Holds the champion against earlier ones: small losses, each tolerated, add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.evaluate_model.champion import Comparable, predict_champion
from perennial.evaluation.comparison import Pair, Terms, compare_overall
from perennial.evaluation.prediction_table import GROUP, Array, Examples, read_weights
from perennial.project import Project
from schemas.records import CHAMPION, Champion, FormerChampion


def compare_former(
    project: Project,
    former: Sequence[Champion],
    against: Comparable,
    examples: Examples,
    labels: Mapping[str, Array],
) -> tuple[list[FormerChampion], list[str]]:
    """Compares the champion with earlier ones on the first task.

    Args:
        project: Whose registry holds them.
        former: Versions that served before.
        against: What the champion predicts.
        examples: What they predict.
        labels: The candidate's labels of the examples, by task.

    Returns:
        The comparisons, whose intervals hold together, and why others were not made.
    """
    first, gate = project.tasks[0].name, project.settings.gate
    if first not in against.predictions:
        return [], []
    predicted: dict[str, Array] = {}
    notes: list[str] = []
    for each in former:
        earlier = predict_champion(project, each, examples, labels, "former champion")
        if first in earlier.predictions:
            predicted[each.version] = earlier.predictions[first]
        else:
            notes += earlier.not_compared
    weights = read_weights(project.tasks[:1], examples.records).get(project.tasks[0])
    clusters = examples.named[GROUP].to_numpy() if GROUP in examples.named else None
    terms = Terms(first, gate.confidence, repeats=max(0, len(predicted) - 1))
    compared = []
    for version, predictions in predicted.items():
        pair = Pair(
            against.predictions[first], predictions, labels[first], gate.metric, clusters, weights
        )
        gain = compare_overall(pair, terms).model_copy(update={"model": CHAMPION})
        compared.append(FormerChampion(version=version, gain=gain))
    return compared, notes
