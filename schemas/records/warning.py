"""Records of warnings: what a run found and told, and went on with."""

from __future__ import annotations

from typing import ClassVar, Literal

from schemas.records.base import FileRecord, Record
from schemas.records.data import CheckKind
from schemas.records.judgement import CriterionKind

WarningKind = Literal[CheckKind, CriterionKind, "outlier", "training", "not_compared"]


class RunWarning(Record):
    """Something that a person should know of a run, which went on all the same.

    Its kind is that of the check of the data or of the gate's criterion that it comes from; those
    of neither are outliers, notes of training, and what could not be looked at (`not_compared`).
    `subject` is what it is about: a feature, a slice, a group, an example, or the model. `feature`
    and `span` are set where it is about one. `numbers` are those that the message tells, by name,
    such as `distance` and `threshold`.
    """

    kind: WarningKind
    subject: str
    message: str
    feature: str | None = None
    span: str | None = None
    numbers: dict[str, float] = {}


class RunWarnings(FileRecord):
    """All warnings of a run, the most telling first; the file lies beside the run's report."""

    FILE: ClassVar[str] = "warnings.json"

    warnings: list[RunWarning]
