"""Finds labels that the tasks do not take, before anything is trained on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from components.check_examples.set_aside import Settled
from perennial.project import Project
from perennial.tasks import Task
from schemas.project import TaskKind
from schemas.records import Ingestion

# The expectation that labels must meet, by kind of task; ingestion reads those of a regression.
_RULES: dict[TaskKind, tuple[str, dict[str, Any]]] = {
    "binary": ("expect_column_values_to_be_in_set", {"value_set": [0, 1]}),
    "multi_class": ("expect_column_values_to_be_between", {"min_value": 0}),
}
_TAKES = {"binary": "0 and 1", "multi_class": "class numbers from 0"}


def label_rule(project: Project, ingestion: Ingestion) -> dict[str, Any] | None:
    """Gives the expectation that a span's labels break; None where the tasks take them all.

    Tasks with a label that `preprocessing_fn` makes are left to the steps that train.
    """
    task = _strictest(project)
    if task is None:
        return None
    # Labels that are too many are not counted: then each row is looked at.
    counted = bool(ingestion.labels) or not sum(ingestion.rows.values())
    if counted and all(_takes(task.kind, name) for name in ingestion.labels):
        return None
    kind, arguments = _RULES[task.kind]
    stops = project.settings.checks.expectations == "stop"
    return {
        "type": kind,
        "kwargs": {"column": project.settings.label, **arguments},
        "meta": {"severity": "stop" if stops else "quarantine"},
    }


def explain_rule(project: Project, settled: Settled) -> Settled:
    """Adds to the check of `label_rule`, which is the last, why there is one and what to do."""
    *others, check = settled.checks
    task = _strictest(project)
    if check.verdict == "passed" or task is None:
        return settled
    number = project.tasks.index(task)
    why = (
        f"the {task.kind} task `{task.name}` takes {_TAKES[task.kind]}. Land such labels, or make "
        f"a label of them in preprocessing_fn and name it in model.tasks[{number}].label"
    )
    explained = check.model_copy(update={"message": f"{check.message}: {why}"})
    return replace(settled, checks=[*others, explained])


def _strictest(project: Project) -> Task | None:
    """Gives the task that takes the fewest of the labels as they land."""
    tasks = [
        task
        for task in project.tasks
        if task.label == project.settings.label and task.kind in _RULES
    ]
    return min(tasks, key=lambda task: list(_RULES).index(task.kind), default=None)


def _takes(kind: TaskKind, name: str) -> bool:
    try:
        label = int(name)
    except ValueError:
        return False
    return label in (0, 1) if kind == "binary" else label >= 0
