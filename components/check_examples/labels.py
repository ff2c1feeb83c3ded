"""Finds labels and weights that the tasks do not take, before anything is trained on them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.check_examples.set_aside import Settled
from perennial.project import Project
from perennial.tasks import Task, weight_features
from schemas.project import TaskKind
from schemas.records import Ingestion

# The expectation that labels must meet, by kind of task; ingestion reads those of a regression.
_RULES: dict[TaskKind, tuple[str, dict[str, Any]]] = {
    "binary": ("expect_column_values_to_be_in_set", {"value_set": [0, 1]}),
    "multi_class": ("expect_column_values_to_be_between", {"min_value": 0}),
}
_MOST = sys.float_info.max  # infinity is more
_TAKES = {"binary": "0 and 1", "multi_class": "class numbers from 0"}


@dataclass(frozen=True)
class TaskRule:
    """An expectation that a task makes, and why there is one and what to do."""

    expectation: dict[str, Any]
    why: str


def task_rules(project: Project, ingestion: Ingestion) -> list[TaskRule]:
    """Lists the expectations that a span may break because a task cannot learn from its rows."""
    return [*_label_rules(project, ingestion), *_weight_rules(project)]


def explain_rules(rules: Sequence[TaskRule], settled: Settled) -> Settled:
    """Adds to the checks of `task_rules`, which are the last, why there is one and what to do."""
    others = settled.checks[: len(settled.checks) - len(rules)]
    explained = [
        check
        if check.verdict == "passed"
        else check.model_copy(update={"message": f"{check.message}: {rule.why}"})
        for rule, check in zip(rules, settled.checks[len(others) :], strict=True)
    ]
    return replace(settled, checks=[*others, *explained])


def _label_rules(project: Project, ingestion: Ingestion) -> list[TaskRule]:
    """Gives the expectation that a span's labels break; none where the tasks take them all.

    Tasks with a label that `preprocessing_fn` makes are left to the steps that train.
    """
    task = _strictest(project)
    if task is None:
        return []
    # Labels that are too many are not counted: then each row is looked at.
    counted = bool(ingestion.labels) or not sum(ingestion.rows.values())
    if counted and all(_takes(task.kind, name) for name in ingestion.labels):
        return []
    kind, arguments = _RULES[task.kind]
    number = project.tasks.index(task)
    why = (
        f"the {task.kind} task `{task.name}` takes {_TAKES[task.kind]}. Land such labels, or make "
        f"a label of them in preprocessing_fn and name it in model.tasks[{number}].label"
    )
    return [TaskRule(_expectation(project, kind, project.settings.label, arguments), why)]


def _weight_rules(project: Project) -> list[TaskRule]:
    """Gives the expectation that each feature which weights examples has to meet."""
    why = "it says how much an example counts (model.tasks[].example_weight). Land such values"
    kind, arguments = "expect_column_values_to_be_between", {"min_value": 0, "max_value": _MOST}
    return [
        TaskRule(_expectation(project, kind, name, arguments), why)
        for name in weight_features(project.tasks)
    ]


def _expectation(
    project: Project, kind: str, column: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    stops = project.settings.checks.expectations == "stop"
    return {
        "type": kind,
        "kwargs": {"column": column, **arguments},
        "meta": {"severity": "stop" if stops else "quarantine"},
    }


def _strictest(project: Project) -> Task | None:
    """Gives the task that takes the fewest of the labels as they land."""
    tasks = [
        task
        for task in project.tasks
        if task.reads_landed(project.settings.label) and task.kind in _RULES
    ]
    return min(tasks, key=lambda task: list(_RULES).index(task.kind), default=None)


def _takes(kind: TaskKind, name: str) -> bool:
    try:
        label = int(name)
    except ValueError:
        return False
    return label in (0, 1) if kind == "binary" else label >= 0
