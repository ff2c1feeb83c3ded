"""Defines the tasks of a model.

Its tasks, how each is measured, and what its served outputs are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.project import Metric, ProjectSettings, TaskKind, TaskOutputForm

METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "binary": ("accuracy", "log_loss", "auc"),
    "multi_class": ("accuracy", "log_loss"),
    "regression": ("mean_absolute_error", "mean_squared_error"),
}
"""What is measured for each kind of task, the most telling first."""

LOWER_IS_BETTER: frozenset[Metric] = frozenset(
    {"log_loss", "mean_absolute_error", "mean_squared_error"}
)
LATENT = "latent"
"""Name of the served output beside the predictions: the latent vector, float32 [n, d]."""

Part = Literal["class", "probabilities", "value"]
PARTS: dict[TaskKind, tuple[Part, ...]] = {
    "binary": ("class", "probabilities"),
    "multi_class": ("class", "probabilities"),
    "regression": ("value",),
}
"""What a model says for a task.

`class` int64 [n] and `probabilities` float32 [n, classes], or `value` float32 [n].
"""


@dataclass(frozen=True)
class Task:
    """One thing that a model predicts. `label` is the transformed feature that holds the truth.

    `returned`: `preprocessing_fn` has to return it, also under the name of the landed label.
    `example_weight` is the landed feature that says how much an example counts.
    """

    name: str
    kind: TaskKind
    label: str
    weight: float = 1.0
    output: TaskOutputForm = "auto"
    returned: bool = False
    example_weight: str | None = None

    @property
    def metric(self) -> Metric:
        """The metric that tells most of this kind of task."""
        return METRICS[self.kind][0]

    @property
    def is_classes(self) -> bool:
        """Tells whether it predicts a class, and not a value."""
        return self.kind != "regression"

    @property
    def weights(self) -> str:
        """Gives the name of its examples' weights, beside the labels by task; no task has it."""
        return f"{self.name}/example_weight"

    def reads_landed(self, label: str) -> bool:
        """Tells whether it learns from the project's label as it landed."""
        return self.label == label and not self.returned


def tasks_of(settings: ProjectSettings) -> tuple[Task, ...]:
    """Gives the tasks of a project, the one that the gate reads first."""
    return tuple(
        Task(
            task.name,
            task.kind,
            task.label or settings.label,
            task.weight,
            task.output,
            task.label_from == "preprocessing_fn",
            task.example_weight,
        )
        for task in settings.model.tasks
    )


def weight_features(tasks: Sequence[Task]) -> list[str]:
    """Lists the features that weight examples of some task, each once."""
    return list(dict.fromkeys(task.example_weight for task in tasks if task.example_weight))


def refuse_bounds(kind: TaskKind, low: float | None, high: float | None) -> str | None:
    """Says what labels must be like, where a task does not take those between two bounds.

    Args:
        kind: Of the task.
        low: The least label; None: there is no bound.
        high: The greatest label; None: there is no bound.

    Returns:
        Such as `0 and 1`; None where the task takes them.
    """
    if low is not None and low == high:
        return "at least two different labels"
    if kind == "binary" and ((low is not None and low < 0) or (high is not None and high > 1)):
        return "0 and 1"
    if kind == "multi_class" and low is not None and low != 0:
        return "class numbers that count from 0"
    return None


def metric_words(metric: str) -> str:
    """Gives a metric's name in words."""
    return "AUC" if metric == "auc" else metric.replace("_", " ")


def output_name(names: Sequence[str], name: str, part: Part) -> str:
    """Names a part of a task's prediction as it is called among a model's outputs.

    The part alone where there is one task; where there are several, the task's name goes before it:
    `fare_value`.
    """
    return part if len(names) == 1 else f"{name}_{part}"
