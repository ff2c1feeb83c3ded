"""The champion on the candidate's terms: compared only where it predicts the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.evaluate_model.predictions import not_finite
from perennial.errors import TrainingError, describe_error
from perennial.evaluation.prediction_table import Array, Examples
from perennial.export.served_model import ServedModel
from perennial.project import Project
from perennial.registry.versions import Registry
from perennial.tasks import Task
from schemas.records import Champion, ServedTask

# The same operations differ by rounding alone from one version of TensorFlow to the next.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Comparable:
    """The champion's predictions by task, of the tasks that can be compared, and why others cannot.

    `tasks` are those that it serves.
    """

    predictions: dict[str, Array] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)
    tasks: dict[str, ServedTask] = field(default_factory=dict)


def predict_champion(
    project: Project,
    champion: Champion | None,
    examples: Examples,
    labels: Mapping[str, Array],
    called: str = "champion",
) -> Comparable:
    """Predicts the examples with the champion, if it predicts what the candidate does.

    Args:
        project: Whose first task decides, and whose registry holds the champion.
        champion: The version that serves.
        examples: What to predict.
        labels: The candidate's labels of the examples, by task.
        called: What messages call it.
    """
    if champion is None:
        return Comparable(not_compared=["there is no champion yet"])
    name = f"{called} version {champion.version}"
    try:
        # It may need a feature that the data no longer has: TensorFlow then raises errors of many
        # kinds.
        model = _load(project, champion, name)
        if refused := _refuse_first(model, project.tasks[0]):
            return Comparable(not_compared=[refused])
        if refused := _refuse_labels(
            model.label_examples(examples.records), labels, champion.version
        ):
            return Comparable(not_compared=[refused])
        predictions = model.predict_examples(examples.records)
    except TrainingError as error:  # whose remedy is that of a model which is being trained
        cause = f"it cannot take the test examples ({error.received})"
        return Comparable(not_compared=[f"{name} could not be evaluated: {cause}"])
    except Exception as error:
        return Comparable(not_compared=[f"{name} could not be evaluated: {describe_error(error)}"])
    if bad := not_finite(predictions, examples):
        return Comparable(not_compared=[f"{name} could not be evaluated: it gives {bad}"])
    shared = [task.name for task in project.tasks if _is_same(model.tasks.get(task.name), task)]
    missing = _missing(project.tasks, shared, name)
    return Comparable({task: predictions[task] for task in shared}, missing, model.tasks)


def _load(project: Project, champion: Champion, name: str) -> ServedModel:
    registry = Registry(project)
    folder = registry.fetch(registry.version(champion.version))
    return ServedModel.load(folder, champion.digest, name)


def _is_same(served: ServedTask | None, task: Task) -> bool:
    return served is not None and served.kind == task.kind


def _refuse_first(model: ServedModel, first: Task) -> str | None:
    if _is_same(model.tasks.get(first.name), first):
        return None
    has = ", ".join(f"`{task.name}` ({task.kind})" for task in model.tasks.values())
    return f"{model.name} predicts {has} instead of `{first.name}` ({first.kind})"


def _missing(tasks: Sequence[Task], shared: Sequence[str], name: str) -> list[str]:
    return [
        f"task `{task.name}` ({task.kind}): {name} does not predict it"
        for task in tasks
        if task.name not in shared
    ]


def _refuse_labels(
    theirs: Mapping[str, Array], ours: Mapping[str, Array], version: str
) -> str | None:
    for task in [name for name in ours if name in theirs]:
        same = np.isclose(theirs[task], ours[task], rtol=_ROUNDING, atol=0, equal_nan=True)
        if not same.all():
            row, count = int(np.argmin(same)), int((~same).sum())
            how = f"{theirs[task][row]:g} instead of {ours[task][row]:g}"
            return (
                f"labels are defined otherwise by version {version} (task `{task}`: {count} of "
                f"{len(same)} test examples, such as {how})"
            )
    return None
