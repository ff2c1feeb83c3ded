"""Classes that a span lacks: named where chance does not explain it."""

from __future__ import annotations

import pytest

from components.validate_data.class_checks import check_classes

WINDOW = [{"0": 900, "1": 80, "2": 20}, {"0": 900, "1": 80, "2": 20}]


@pytest.mark.parametrize(
    ("labels", "gone"),
    [
        ({"0": 900, "1": 80, "2": 20}, []),
        ({"0": 900, "1": 100}, ["2"]),  # 2% of the rows: too little for the label's drift
        ({"0": 1000}, ["1", "2"]),
        ({"0": 45, "1": 5}, []),  # of 50 rows, one is expected and none may come
        ({"3": 500}, ["0", "1", "2"]),
        ({}, []),  # too many to count
    ],
)
def test_a_class_that_vanished_is_named(labels, gone):
    checks = check_classes(labels, WINDOW, "kind", "warn")
    assert [check.message.split()[5].rstrip(":") for check in checks] == gone
    assert all(
        (check.kind, check.subject, check.verdict, check.severity)
        == ("class_gone", "kind", "failed", "warn")
        for check in checks
    )


def test_values_of_a_regression_never_alarm():
    before = [{str(value): 1 for value in range(1000)}]
    assert check_classes({"0.5": 500}, before, "fare", "warn") == []


def test_the_first_span_lacks_nothing():
    assert check_classes({"0": 3}, [], "kind", "warn") == []
