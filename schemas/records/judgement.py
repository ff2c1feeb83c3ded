"""Records of the comparison of models, and of what came of it."""

from __future__ import annotations

from schemas.project import Metric, TaskKind
from schemas.records.base import Record
from schemas.records.data import Span
from schemas.records.models import Champion, Training


class SliceMetrics(Record):
    """Metrics of one model's task on one slice (`overall`, or `feature=value`), by their names."""

    model: str
    task: str
    slice: str
    examples: int
    values: dict[Metric, float]


class Difference(Record):
    """Candidate minus champion on one metric, oriented so that positive is better, with a paired interval."""

    metric: Metric
    task: str
    slice: str
    examples: int
    value: float
    low: float
    high: float
    confidence: float


class ConfusionMatrix(Record):
    """Counts: `counts[i][j]` examples of class `labels[i]` were predicted as `labels[j]`."""

    model: str
    labels: list[str]
    counts: list[list[int]]


class Mistake(Record):
    """A test example on which the candidate is most wrong.

    `label` and `predicted` are classes, or values of a regression; `probability` is that of the wrong class, None for
    a regression.
    """

    key: str
    span: str
    label: int | float
    predicted: int | float
    probability: float | None


class EvaluatedTask(Record):
    """A task that was measured. The gate reads the first."""

    name: str
    kind: TaskKind


class Evaluation(Record):
    """Everything measured on the test split. `candidate` names the instance that faces the champion.

    `window` holds the spans that were trained and tested on, oldest first. `differences` hold the gate's metric of
    the first task, and of each other task its own. Confusion and mistakes are of the first task; there is no
    confusion of a regression, nor of more than 100 classes.
    """

    candidate: str
    digest: str
    champion: Champion | None
    window: list[Span] = []
    tasks: list[EvaluatedTask]
    trainings: list[Training]
    examples: int
    slices: list[SliceMetrics]
    differences: list[Difference]
    confusion: list[ConfusionMatrix]
    mistakes: list[Mistake]
    not_compared: list[str]

    def overall(self, model: str) -> SliceMetrics | None:
        """The first task's overall metrics of `candidate` or `champion`, if that model was evaluated."""
        first = self.tasks[0].name
        found = (row for row in self.slices if (row.model, row.task, row.slice) == (model, first, "overall"))
        return next(found, None)


class Criterion(Record):
    """One thing the gate asked. `numbers` holds what was compared."""

    name: str
    passed: bool
    explanation: str


class Decision(Record):
    """Promote or keep, with every criterion, the reasons in words, and what was not compared."""

    promote: bool
    criteria: list[Criterion]
    reasons: list[str]
    not_compared: list[str]


class ModelVersion(Record):
    """A version in the registry."""

    name: str
    version: str
    digest: str
    source: str
    mlflow_run: str


class ServingCheck(Record):
    """What the real server answered for real examples, beside what evaluation computed for them."""

    passed: bool
    requests: int
    largest_difference: float
    seconds_to_ready: float
    message: str
