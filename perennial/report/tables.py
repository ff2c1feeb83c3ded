"""The rows of the report's tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from perennial.report.facts import RunFacts
from perennial.tasks import METRICS
from schemas import records


@dataclass(frozen=True)
class SpanRow:
    """A span of the window; `judged` is None when this run did not look into it."""

    span: records.Span
    new: bool
    judged: records.SpanValidation | None

    def count(self, verdict: str) -> int:
        """How many checks of the span ended so; `failed` does not count those that only warn, `warned` does."""
        if not self.judged:
            return 0
        counted = {"failed": self.judged.failures, "warned": self.judged.warnings}
        return len(counted.get(verdict, [check for check in self.judged.checks if check.verdict == verdict]))

    @property
    def fate(self) -> str:
        """What became of the span in this run, in a few words."""
        if not (self.judged and self.judged.new):
            return "known"
        if self.judged.quarantined:
            return "quarantined"
        return "released by a person" if self.judged.released else "accepted"


@dataclass(frozen=True)
class MetricRow:
    """One metric of one task on one slice or view: both models and their difference, each where it is known."""

    task: str
    metric: str
    slice: str
    examples: int
    candidate: float | None
    champion: float | None
    difference: records.Difference | None
    view: bool = False


@dataclass(frozen=True)
class SpaceRow:
    """A design space: how many samples it has, how many failed, and how the errors lie (failed: infinite)."""

    name: str
    samples: int
    failed: int
    least: float
    middle: float
    parameters: tuple[int, int] | None
    seconds: float


def span_rows(facts: RunFacts) -> list[SpanRow]:
    """The spans that the run looked at, newest first."""
    judged = {row.span.fingerprint: row for row in facts.validation.spans} if facts.validation else {}
    window = facts.selection.window if facts.selection else [row.span for row in judged.values()]
    new = facts.selection.new_spans if facts.selection else []
    found = [(span, judged.get(span.fingerprint)) for span in reversed(window)]
    return [SpanRow(span, seen.new if seen else span.name in new, seen) for span, seen in found]


def label_counts(rows: Sequence[SpanRow]) -> dict[str, int]:
    """Examples by label, over the spans whose labels this run counted."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.judged.labels if row.judged else {})
    return dict(counts)


def group_checks(rows: Sequence[SpanRow], verdict: str) -> list[tuple[records.Check, list[str]]]:
    """The checks that ended so (`warned`: failed, but only a warning), equal ones of several spans as one."""
    groups: dict[records.Check, list[str]] = {}
    for row in rows:
        for check in row.judged.checks if row.judged else []:
            warned = check.verdict == "failed" and check.severity == "warn"
            if verdict == ("warned" if warned else check.verdict):
                groups.setdefault(check, []).append(row.span.name)
    return list(groups.items())


def metric_rows(evaluation: records.Evaluation) -> list[MetricRow]:
    """All metrics by task and slice: overall, then views, then slices; candidate and champion beside each other."""
    rows = [row for task in evaluation.tasks for row in _task_rows(evaluation, task)]
    known = [row for row in rows if (row.candidate, row.champion, row.difference) != (None, None, None)]
    order = {task.name: number for number, task in enumerate(evaluation.tasks)}
    return sorted(known, key=lambda row: (order[row.task], row.slice != "overall", not row.view))


def _task_rows(evaluation: records.Evaluation, task: records.EvaluatedTask) -> list[MetricRow]:
    compared = ("candidate", "champion")
    slices = {
        (row.model, row.slice): row
        for row in evaluation.slices
        if (row.task, row.model in compared) == (task.name, True)
    }
    found = [row for row in evaluation.differences if (row.task, row.model) == (task.name, "candidate")]
    differences = {(row.metric, row.slice): row for row in found}
    views = {row.slice for row in slices.values() if row.view} | {row.slice for row in found if row.view}
    measured = (metric for row in slices.values() for metric in row.values)
    metrics = dict.fromkeys([*METRICS[task.kind], *measured, *(metric for metric, _ in differences)])
    names = dict.fromkeys(["overall", *(name for _, name in slices), *(name for _, name in differences)])
    rows = []
    for name in names:
        both = [slices.get((model, name)) for model in compared]
        for metric in metrics:
            difference = differences.get((metric, name))
            examples = max((row.examples for row in both if row), default=difference.examples if difference else 0)
            candidate, champion = (row.values.get(metric) if row else None for row in both)
            rows.append(MetricRow(task.name, metric, name, examples, candidate, champion, difference, name in views))
    return rows


def worst_first(evaluation: records.Evaluation) -> list[records.Mistake]:
    """The candidate's mistakes: the most certain first, or of values those furthest off; NaN first of all."""

    def size(mistake: records.Mistake) -> float:
        value = abs(mistake.predicted - mistake.label) if mistake.probability is None else mistake.probability
        return math.inf if math.isnan(value) else value

    return sorted(evaluation.mistakes, key=size, reverse=True)


def best_trials_first(tuning: records.Tuning) -> list[records.Trial]:
    """The trials of a search that reached a finite loss, the lowest first."""
    finite = [(trial.loss, trial.number, trial) for trial in tuning.trials if trial.loss is not None]
    return [trial for loss, _, trial in sorted(finite, key=lambda row: row[:2]) if math.isfinite(loss)]


def chosen_rows(facts: RunFacts) -> list[tuple[str, object, list[object]]]:
    """Each hyperparameter's name, its value in the settings (None: `build_model`'s default), and those chosen."""
    best = facts.tuning.best if facts.tuning else []
    own = facts.settings_own
    rows: list[tuple[str, object, list[object]]] = [
        ("learning rate", own.learning_rate if own else None, [each.learning_rate for each in best]),
        ("batch size", own.batch_size if own else None, [each.batch_size for each in best]),
    ]
    names = dict.fromkeys(name for each in best for name in each.model)
    if facts.by_run_fn:
        rows = []  # it reads neither of the two
    return rows + [(name, None, [each.model.get(name) for each in best]) for name in names]


def space_rows(comparison: records.DesignComparison) -> list[SpaceRow]:
    """The design spaces in the order in which they were named."""
    return [_space_row(space, comparison) for space in comparison.spaces]


def failed_samples(comparison: records.DesignComparison) -> list[records.DesignSample]:
    """The sampled models that have no finite error."""
    return [sample for sample in comparison.samples if sample.error is None or not math.isfinite(sample.error)]


def _space_row(space: str, comparison: records.DesignComparison) -> SpaceRow:
    samples = [sample for sample in comparison.samples if sample.space == space]
    found = [sample.error for sample in samples]
    # A model that failed counts as worse than all others, as in the comparison.
    errors = sorted(error if error is not None and math.isfinite(error) else math.inf for error in found)
    sizes = [sample.parameters for sample in samples if sample.parameters]
    return SpaceRow(
        name=space,
        samples=len(samples),
        failed=sum(math.isinf(error) for error in errors),
        least=errors[0] if errors else math.nan,
        middle=median(errors) if errors else math.nan,
        parameters=(min(sizes), max(sizes)) if sizes else None,
        seconds=sum(sample.seconds for sample in samples),
    )
