"""What breaks the schema is told in plain words, with numbers."""

from __future__ import annotations

import math

import pytest

from tests.components.validate_data.jobs import describe_anomalies
from tests.forked import forked

EVERY = "presence { min_fraction: 1 min_count: 1 }"
NUMBERS = [float(number) for number in range(300)]

# feature, its values, and what is said of them
CASES = {
    "missing": (
        f'name: "x" type: FLOAT {EVERY} shape {{}}',
        [None] * 30 + [1.0] * 270,
        ["30 of 300 rows have no value; schema.pbtxt asks for one in every row"],
    ),
    "often missing": (
        'name: "x" type: FLOAT presence { min_fraction: 0.95 min_count: 1 } value_count { min: 1 max: 1 }',
        [None] * 30 + [1.0] * 270,
        ["30 of 300 rows have no value; schema.pbtxt asks for one in at least 0.95 of the rows"],
    ),
    "all missing": (
        f'name: "x" type: FLOAT {EVERY} shape {{}}',
        [None] * 300,
        ["no row has a value; schema.pbtxt asks for one in every row"],
    ),
    "new": (
        'name: "y" type: FLOAT lifecycle_stage: PLANNED',
        NUMBERS,
        ["schema.pbtxt does not have this column (`perennial schema diff` proposes it)"],
    ),
    "type": (
        f'name: "x" type: FLOAT {EVERY} shape {{}}',
        ["a"] * 300,
        ["the values are of type BYTES; schema.pbtxt says FLOAT"],
    ),
    "bounds": (
        f'name: "x" type: FLOAT {EVERY} shape {{}} float_domain {{ min: 5 max: 100 }}',
        NUMBERS,
        [
            "the smallest value is 0; schema.pbtxt allows at least 5",
            "the greatest value is 299; schema.pbtxt allows at most 100",
        ],
    ),
    "infinite": (
        f'name: "x" type: FLOAT {EVERY} shape {{}} float_domain {{ disallow_inf: true }}',
        [math.inf] + [1.0] * 299,
        ["some values are infinite, which schema.pbtxt does not allow"],
    ),
    "values": (
        f'name: "x" type: BYTES {EVERY} shape {{}} string_domain {{ value: "a" }}',
        ["a"] * 200 + ["z"] * 60 + ["b"] * 40,
        ["100 values are not among those that schema.pbtxt lists: z, b"],
    ),
    "lengths": (
        f'name: "x" type: INT {EVERY} shape {{ dim {{ size: 3 }} }}',
        [[1, 2, 3]] * 100 + [[1, 2]] * 200,
        ["a row holds 2 to 3 values; schema.pbtxt asks for 3"],
    ),
    "count": (
        f'name: "x" type: INT {EVERY} value_count {{ min: 2 max: 2 }}',
        [[1, 2, 3]] * 100 + [[1]] * 200,
        ["a row holds 1 to 3 values; schema.pbtxt asks for 2"],
    ),
}


@pytest.fixture(scope="module")
def described():
    cases = [(feature, values) for feature, values, _ in CASES.values()]
    return dict(zip(CASES, forked(describe_anomalies, cases), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_anomaly_is_told_once_and_in_plain_words(described, case):
    assert described[case] == CASES[case][2]
