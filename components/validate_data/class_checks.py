"""Checks which classes of the label a span lacks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from schemas.project import Severity
from schemas.records import Check

# Chance that any class of the window is missing from a span by chance.
_FALSE_ALARMS = 0.001
# More different labels are values, not classes.
_MOST_CLASSES = 1000


def check_classes(
    labels: Mapping[str, int],
    earlier: Sequence[Mapping[str, int]],
    label: str,
    severity: Severity,
) -> list[Check]:
    """Makes a check for each class of earlier spans that a span has no row of.

    A class whose absence chance explains is passed over: with a share p among the earlier rows, n
    rows all lack it with probability (1 - p)^n. Labels that are numbers without end (a regression)
    are so rare, each, that this never alarms.

    Args:
        labels: The span's rows by label; empty where they were too many to count.
        earlier: The same of the good spans before it.
        label: Name of the label.
        severity: What a failure does.
    """
    before: Counter[str] = Counter()
    for span in earlier:
        before.update(span)
    rows, everything = sum(labels.values()), sum(before.values())
    if not rows or not everything or len(before) > _MOST_CLASSES:
        return []
    level = _FALSE_ALARMS / len(before)
    gone = [
        (name, count)
        for name, count in before.most_common()
        if not labels.get(name) and (1 - count / everything) ** rows < level
    ]
    return [
        Check(
            kind="class_gone",
            subject=label,
            verdict="failed",
            message=f"no row has the label {name}: {count / everything:.1%} of the earlier rows of "
            f"the window have it, which is {rows * count / everything:,.0f} of {rows:,} rows",
            severity=severity,
        )
        for name, count in gone
    ]
