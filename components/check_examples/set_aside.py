"""Finds every row that breaks an expectation, and judges the suite on the remaining rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from components.check_examples.example_table import ExampleTable
from components.check_examples.expectations import Finding, Suite
from components.check_examples.rows import RowsDecision
from schemas.records import Check

_ROUNDS = 5


@dataclass(frozen=True)
class Settled:
    """The verdict of the suite on a span.

    `excluded` holds the positions of the rows to set aside with the reasons of each; it is empty
    unless the decision is to set them aside. `failing` counts the rows that broke an expectation in
    either case, and `causes` counts those that are set aside by the expectations that they broke.
    """

    checks: list[Check]
    decision: RowsDecision
    failing: int = 0
    excluded: dict[int, list[str]] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)


def settle(
    suite: Suite, span: str, table: ExampleTable, decide: Callable[[int, bool], RowsDecision]
) -> Settled:
    """Judges a span and finds the rows to set aside.

    A rule may compare a row with the others (outliers, order), so that others break it once some
    are gone. So what is left is judged again until no row breaks an expectation. When the rows
    become too many, or there is no end to them, none is set aside and the span is judged as a
    whole.

    Args:
        suite: The expectations.
        span: The span's name.
        table: Its examples; positions count through them.
        decide: `decide_rows` of the number of rows that broke an expectation, and whether that
            settles the suite.
    """
    findings = suite.judge(table, span)
    first, broken = findings, _Found()
    for _ in range(_ROUNDS):
        if not any(finding.reasons for finding in findings):
            checks = [
                _judged(finding, broken.checks.get(number))
                for number, finding in enumerate(findings)
            ]
            return Settled(
                checks, decide(len(broken.rows), True), len(broken.rows), broken.rows, broken.causes
            )
        broken.add(findings, [place for place in range(len(table)) if place not in broken.rows])
        if not decide(len(broken.rows), True).set_aside:
            break
        findings = suite.judge(table.without(broken.rows), span)
    if findings is not first:
        first = suite.judge(table, span)
    return Settled(
        [finding.check for finding in first], decide(len(broken.rows), False), len(broken.rows)
    )


@dataclass
class _Found:
    """Rows that broke an expectation so far, by position, and the numbers of those expectations."""

    rows: dict[int, list[str]] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    checks: dict[int, Check] = field(default_factory=dict)

    def add(self, findings: Sequence[Finding], places: Sequence[int]) -> None:
        """Adds the findings of one round; `places` are positions of rows of the judged frame."""
        for number, finding in enumerate(findings):
            if finding.reasons:
                self.checks.setdefault(number, finding.check)
                self.causes[finding.rule] += len(finding.reasons)
            for row, reason in finding.reasons.items():
                self.rows.setdefault(places[row], []).append(reason)


def _judged(finding: Finding, broken: Check | None) -> Check:
    """Makes the check of an expectation on the remaining rows; `broken` is its first check."""
    if broken is None or finding.check.verdict != "passed":
        return finding.check
    return broken.model_copy(update={"verdict": "set_aside"})
