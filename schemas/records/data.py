"""Records of spans: what landed, what was checked, what was found."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from schemas.project import Severity
from schemas.records.base import FileRecord, Record


class Span(Record):
    """One landing of labelled data.

    `uri` is a path, a URL, a pattern of them (a span of several files), or the SQLAlchemy URL of a
    table without its password. The fingerprint is the SHA-256 of the bytes, or of what a table
    tells of its rows; other data are another version. `same_as` names another span that lies there
    with the same bytes and was trained on first, or is older.
    """

    name: str
    version: int
    uri: str
    fingerprint: str
    same_as: str | None = None


CheckKind = Literal[
    "readable",
    "features",
    "duplicates",
    "future",
    "columns",
    "rows",
    "schema",
    "expectation",
    "drift",
    "label_drift",
    "class_gone",
    "skew",
    "splits",
]


class Check(Record):
    """One thing that was looked at in one span, or in the window.

    `verdict` is `not_compared` when there was nothing to compare with: never a silent pass. It is
    `set_aside` when the rows that failed were few enough to be set aside. `severity` is what a
    failure does. `distance` and `threshold` are those of a drift or skew check. `features` are what
    the schema asks for in every example, `future` is the date of the span, and `duplicates` are
    rows that other spans have, too. `splits` are the examples of the window's splits. `exempt`:
    what is not compared cannot be (a key, an image) or was not asked for, which is no cause for a
    warning.
    """

    kind: CheckKind
    subject: str
    verdict: Literal["passed", "failed", "set_aside", "not_compared"]
    message: str
    severity: Severity = "quarantine"
    distance: float | None = None
    threshold: float | None = None
    exempt: bool = False


class SetAside(Record):
    """A row that was set aside: where it stood, why, and what it held.

    Values are JSON, long ones shortened. `place` is such as `data/2026-01-31.csv: line 17`, or `id
    digit-0012` where only the example's key is known.
    """

    span: str
    place: str
    reasons: list[str]
    values: dict[str, Any]


class Ingestion(FileRecord):
    """The result of ingesting one span.

    The rows that became examples, per split and per label, and those that could not.

    `columns` are the span's columns in their order. `causes` counts the rows set aside by reason in
    general terms, with some of the values; each row stands in the folder's quarantine file.
    `problem` is what makes the whole span unreadable. `content` is a digest of everything that
    decided which examples the folder holds.
    """

    FILE: ClassVar[str] = "ingestion.json"

    span: Span
    columns: list[str]
    rows: dict[str, int]
    labels: dict[str, int]
    set_aside: int = 0
    causes: dict[str, int] = {}
    problem: str | None = None
    content: str = ""


class ColumnCounts(Record):
    """Summary of the values of a column: how many numbers, and how often each text.

    `codes` look like numbers and would not survive as such (000123, 1E5, more digits than 64 bits
    hold), `separated` are numbers with separators (1,234), `decimal_commas` those of which the last
    can only be a decimal comma (1,5), `words` are the rest. Of many texts the first few are kept,
    and "" counts the others.
    """

    numbers: int
    codes: dict[str, int] = {}
    separated: dict[str, int] = {}
    decimal_commas: dict[str, int] = {}
    words: dict[str, int] = {}


class InferredColumns(FileRecord):
    """Summary of the values of a span, where no schema says what they are."""

    FILE: ClassVar[str] = "inferred.json"

    columns: dict[str, ColumnCounts]


class CheckedSpan(FileRecord):
    """Findings of the row rules and the expectations in one span, and the rows that are left.

    `checks` are of the kinds readable, rows and expectation.
    """

    FILE: ClassVar[str] = "checked.json"

    span: Span
    columns: list[str]
    rows: dict[str, int]
    labels: dict[str, int]
    set_aside: int
    checks: list[Check]
    content: str

    @property
    def readable(self) -> bool:
        """Tells whether examples could be read from the span."""
        return not any(
            check.kind == "readable" and check.verdict == "failed" for check in self.checks
        )


class SpanValidation(Record):
    """The state of one span after validation.

    `rows` per split, and whether a person `released` it. `rows_digest` tells a new span's rows, in
    whatever order they landed; None: their keys were not kept.
    """

    span: Span
    new: bool
    rows: dict[str, int]
    labels: dict[str, int]
    checks: list[Check]
    set_aside: int = 0
    released: bool = False
    rows_digest: str | None = None

    @property
    def failures(self) -> list[Check]:
        """The checks that failed and are more than a warning."""
        return [
            check for check in self.checks if check.verdict == "failed" and check.severity != "warn"
        ]

    @property
    def warnings(self) -> list[Check]:
        """The checks that failed and only warn."""
        return [
            check for check in self.checks if check.verdict == "failed" and check.severity == "warn"
        ]

    @property
    def quarantined(self) -> bool:
        """Tells whether the span is kept out of the window until a person decides.

        What cannot be read, or cannot be trained on, cannot be released.
        """
        return self.new and bool(self.failures) and (self.unusable or not self.released)

    @property
    def unusable(self) -> bool:
        """Tells whether the span cannot be trained on, whatever a person says.

        It cannot be read, or lacks what the schema asks for in every example. A span that was
        accepted before and is so by the schema of today is left out of the window.
        """
        return any(check.kind in ("readable", "features") for check in self.failures)

    @property
    def in_window(self) -> bool:
        """Tells whether the span is trained on if the run goes on."""
        return not self.quarantined and not self.unusable


class Validation(FileRecord):
    """The verdict on all new spans of a run.

    `accepted`: the run goes on, with the spans that are not quarantined. `window_warnings` are
    checks of all spans together that failed and only warn.
    """

    FILE: ClassVar[str] = "validation.json"

    spans: list[SpanValidation]
    accepted: bool
    reasons: list[str]
    window_warnings: list[Check] = []
