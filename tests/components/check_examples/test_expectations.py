"""Every row that breaks a row-level expectation is found.

Each of them is compared with a count made by hand.
"""

from __future__ import annotations

import json
import re
import statistics

import pytest

from components.check_examples.broken_rules import check_bounds
from components.check_examples.expectations import find_rows, read_severity
from perennial.errors import ProjectError
from perennial.readers.columns import Column
from tests.components.check_examples import jobs
from tests.forked import forked

ROWS = 1_000  # far past the 20 and the 200 at which Great Expectations ends its lists of values
COLUMNS = {
    "n": [i % 10 for i in range(ROWS)],
    "five": [5] * ROWS,
    "text": ["abc" if i % 3 else "xyzzy" for i in range(ROWS)],
    "twin": [i if i % 4 == 0 else -(i // 8) for i in range(ROWS)],
    "holes": [None if i % 7 == 0 else float(i % 10) for i in range(ROWS)],
    "wide": [1000.0 if i % 4 == 0 else float(i % 3) for i in range(ROWS)],
    "mixed": ["a" if i % 2 else 3 for i in range(ROWS)],
    "json": ['{"a": 1}' if i % 3 else '{"b": 1}' for i in range(ROWS)],
    "broken json": ['{"a": 1}' if i % 3 else "{a" for i in range(ROWS)],
    "date": ["2026-01-01" if i % 3 else "never" for i in range(ROWS)],
    "image.max": [i % 20 for i in range(ROWS)],
}
EVERY = range(ROWS)
MEAN, DEVIATION = statistics.fmean(COLUMNS["wide"]), statistics.stdev(COLUMNS["wide"])


def _where(column, broken):
    return [i for i in EVERY if COLUMNS[column][i] is not None and broken(COLUMNS[column][i])]


def _repeated(values):
    return [i for i in range(len(values)) if values.count(values[i]) > 1]


PAIRS = [(COLUMNS["n"][i], COLUMNS["text"][i]) for i in EVERY]
HELD = [i for i in EVERY if COLUMNS["holes"][i] is not None]
HIGH = _where("holes", lambda value: value < 4)

# type without `expect_`, arguments, rows that break it
CASES = [
    (
        "column_pair_values_a_to_be_greater_than_b",
        {"column_A": "n", "column_B": "five"},
        _where("n", lambda v: v <= 5),
    ),
    (
        "column_pair_values_to_be_equal",
        {"column_A": "holes", "column_B": "five", "ignore_row_if": "either_value_is_missing"},
        _where("holes", lambda v: v != 5),
    ),
    (
        "column_pair_values_to_be_in_set",
        {"column_A": "n", "column_B": "five", "value_pairs_set": [[1, 5], [2, 5]]},
        _where("n", lambda v: v not in (1, 2)),
    ),
    (
        "column_value_lengths_to_be_between",
        {"column": "text", "max_value": 3},
        _where("text", lambda v: len(v) > 3),
    ),
    (
        "column_value_lengths_to_equal",
        {"column": "text", "value": 5},
        _where("text", lambda v: len(v) != 5),
    ),
    (
        "column_value_z_scores_to_be_less_than",
        {"column": "wide", "threshold": 1, "double_sided": True},
        _where("wide", lambda v: abs(v - MEAN) >= DEVIATION),
    ),
    (
        "column_values_to_not_be_outliers",
        {"column": "wide", "method": "std", "multiplier": 1},
        _where("wide", lambda v: abs(v - MEAN) >= DEVIATION),
    ),
    ("column_values_to_be_between", {"column": "holes", "min_value": 4}, HIGH),
    ("column_values_to_be_between", {"column": "holes", "min_value": 4, "mostly": 0.9}, HIGH),
    (
        "column_values_to_be_between",
        {"column": "image.max", "max_value": 4},
        _where("image.max", lambda v: v > 4),
    ),
    (
        "column_values_to_be_between",
        {"column": "holes", "min_value": 4, "row_condition": "n < 3", "condition_parser": "pandas"},
        [i for i in HIGH if COLUMNS["n"][i] < 3],
    ),
    (
        "column_values_to_be_dateutil_parseable",
        {"column": "date"},
        _where("date", lambda v: v == "never"),
    ),
    ("column_values_to_be_decreasing", {"column": "n"}, [i for i in EVERY if i and i % 10]),
    (
        "column_values_to_be_increasing",
        {"column": "wide"},
        [i for i in EVERY if i and COLUMNS["wide"][i] < COLUMNS["wide"][i - 1]],
    ),
    (
        "column_values_to_be_in_set",
        {"column": "n", "value_set": [1, 2]},
        _where("n", lambda v: v not in (1, 2)),
    ),
    (
        "column_values_to_not_be_in_set",
        {"column": "n", "value_set": [1, 2, 3]},
        _where("n", lambda v: v in (1, 2, 3)),
    ),
    (
        "column_values_to_be_in_type_list",
        {"column": "mixed", "type_list": ["int"]},
        list(EVERY[1::2]),
    ),
    ("column_values_to_be_of_type", {"column": "mixed", "type_": "str"}, list(EVERY[::2])),
    ("column_values_to_be_json_parseable", {"column": "broken json"}, list(EVERY[::3])),
    (
        "column_values_to_match_json_schema",
        {"column": "json", "json_schema": {"type": "object", "required": ["a"]}},
        list(EVERY[::3]),
    ),
    ("column_values_to_be_null", {"column": "holes"}, HELD),
    ("column_values_to_not_be_null", {"column": "holes"}, list(EVERY[::7])),
    ("column_values_to_be_unique", {"column": "twin"}, _repeated(COLUMNS["twin"])),
    ("column_values_to_match_regex", {"column": "text", "regex": "^a"}, list(EVERY[::3])),
    (
        "column_values_to_match_regex_list",
        {"column": "text", "regex_list": ["^a", "^b"]},
        list(EVERY[::3]),
    ),
    ("column_values_to_not_match_regex", {"column": "text", "regex": "^x"}, list(EVERY[::3])),
    (
        "column_values_to_not_match_regex_list",
        {"column": "text", "regex_list": ["^x", "^y"]},
        list(EVERY[::3]),
    ),
    (
        "column_values_to_match_strftime_format",
        {"column": "date", "strftime_format": "%Y-%m-%d"},
        list(EVERY[::3]),
    ),
    ("compound_columns_to_be_unique", {"column_list": ["n", "text"]}, _repeated(PAIRS)),
    (
        "multicolumn_sum_to_equal",
        {"column_list": ["n", "five"], "sum_total": 7},
        _where("n", lambda v: v != 2),
    ),
    (
        "multicolumn_values_to_be_equal",
        {"column_list": ["n", "five"]},
        _where("n", lambda v: v != 5),
    ),
    (
        "select_column_values_to_be_unique_within_record",
        {"column_list": ["n", "holes"], "ignore_row_if": "any_value_is_missing"},
        HELD,
    ),
]
# Great Expectations has them for databases only.
NOT_FOR_FRAMES = {
    "column_values_to_match_like_pattern": {"column": "text", "like_pattern": "a%"},
    "column_values_to_match_like_pattern_list": {"column": "text", "like_pattern_list": ["a%"]},
    "column_values_to_not_match_like_pattern": {"column": "text", "like_pattern": "a%"},
    "column_values_to_not_match_like_pattern_list": {"column": "text", "like_pattern_list": ["a%"]},
}


def _expectation(kind, kwargs, **more):
    return {"type": f"expect_{kind}", "kwargs": kwargs, **more}


ALL = [_expectation(kind, kwargs) for kind, kwargs, _ in CASES]


@pytest.fixture(scope="module")
def judged():
    return forked(jobs.judge, COLUMNS, ALL)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[kind for kind, _, _ in CASES])
def test_every_row_that_breaks_it_is_found(judged, number):
    check, rows, counted = judged[number]
    expected = CASES[number][2]
    assert check.verdict == "failed" and f"not so in {len(expected)} of " in check.message
    assert rows == expected and len(rows) == counted


# Those that look at a whole column or table.
OTHERS = [
    _expectation("column_max_to_be_between", {"column": "n", "max_value": 5}),
    _expectation("column_max_to_be_between", {"column": "n", "max_value": 9}),
    _expectation("column_mean_to_be_between", {"column": "wide", "min_value": 0, "max_value": 1}),
    _expectation(
        "column_median_to_be_between",
        {"column": "n", "row_condition": "n < 3", "condition_parser": "pandas"},
    ),
    _expectation(
        "column_proportion_of_unique_values_to_be_between", {"column": "n", "max_value": 0.001}
    ),
    _expectation("column_pair_values_to_be_equal", {"column_A": "n", "column_B": "n"}),
    _expectation("column_to_exist", {"column": "n"}),
    _expectation("column_to_exist", {"column": "nowhere"}),
    _expectation("column_values_to_be_between", {"column": "nowhere", "max_value": 1}),
    _expectation("column_values_to_be_unique", {"column": "nowhere"}),
    _expectation("column_values_to_be_between", {"column": "holes", "min_value": 4, "mostly": 0.5}),
    _expectation("column_values_to_not_be_null", {"column": "holes", "mostly": 0.8}),
    _expectation("table_row_count_to_equal", {"value": ROWS}),
    _expectation("table_row_count_to_equal", {"value": 100}),
    _expectation("table_column_count_to_equal", {"value": len(COLUMNS)}),
    _expectation("table_columns_to_match_set", {"column_set": ["n"]}),
]


def test_what_is_judged_in_parts_is_what_is_judged_as_a_whole(judged):
    parts = forked(jobs.judge, COLUMNS, ALL + OTHERS, 64)
    for part, whole in zip(parts, judged + forked(jobs.judge, COLUMNS, OTHERS), strict=True):
        assert part == whole
    assert {check.verdict for check, _, _ in parts} == {"passed", "failed"}


def test_most_cases_go_past_the_caps():
    assert sum(len(rows) > 200 for _, _, rows in CASES) >= len(CASES) - 2
    assert sum(len(rows) > 200 for kind, _, rows in CASES if "column_values" not in kind) >= 5


def test_no_row_level_expectation_was_forgotten():
    tried = {kind for kind, _, _ in CASES} | NOT_FOR_FRAMES.keys()
    assert {f"expect_{kind}" for kind in tried} == forked(jobs.map_expectations)


BETWEEN = "column_values_to_be_between"
# A rule that can be judged on no row, and what is said of it.
BROKEN = [
    *[
        (kind, kwargs, "can be judged on what its columns")
        for kind, kwargs in NOT_FOR_FRAMES.items()
    ],
    (BETWEEN, {"column": "n", "min_value": "2026-01-01"}, r"\(`n`: numbers\).*'2026-01-01'"),
    (BETWEEN, {"column": "text", "max_value": 5}, r"\(`text`: text\).*max_value 5"),
    (BETWEEN, {"column": "n", "min_value": 5, "max_value": 1}, "min_value cannot be greater"),
    (BETWEEN, {"column": "txt", "max_value": 5}, "must name a column .*`txt`. Did you mean `text`"),
    ("column_mean_to_be_between", {"column": "date", "max_value": 5}, r"\(`date`: text\)"),
    ("column_values_to_match_regex", {"column": "text", "regex": "["}, "unterminated"),
    ("column_values_to_be_of_type", {"column": "text", "type_": "Foo"}, "Foo"),
]


@pytest.fixture(scope="module")
def refused():
    rules = [_expectation(kind, kwargs) for kind, kwargs, _ in BROKEN]
    return forked(jobs.refusals, COLUMNS, rules)


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_rule_that_can_be_judged_on_no_row_is_a_mistake_of_the_project(refused, number):
    assert refused[number].startswith("ProjectError: expectations.json: expectations[0] must ")
    assert "\n" not in refused[number] and len(refused[number]) < 600
    assert re.search(BROKEN[number][2], refused[number]), refused[number]


def test_rule_that_some_rows_keep_from_being_judged_is_their_fault():
    rule = _expectation(
        "column_values_to_match_json_schema",
        {"column": "broken json", "json_schema": {"type": "object"}},
    )
    ((check, rows, _),) = forked(jobs.judge, COLUMNS, [rule])
    assert check.verdict == "failed" and rows == []


def test_bounds_are_of_the_kind_that_the_schema_gives_their_column():
    columns = {"fare": Column("float"), "day": Column("bytes"), "image": Column("float", many=True)}

    def check(**kwargs):
        check_bounds([_expectation(BETWEEN, kwargs)], columns)

    check(column="fare", min_value=0)
    check(column="day", min_value="2026-01-01")
    check(column="image", min_value="2026-01-01")  # has no such column, which the step says
    with pytest.raises(
        ProjectError, match=r"\[0\]\.min_value must be a number, as `fare`.*1767225600"
    ):
        check(column="fare", min_value="2026-01-01")
    with pytest.raises(ProjectError, match=r"\[0\]\.max_value must be a date.*`day`.*Received: 7"):
        check(column="day", max_value=7)


DAYS = [
    "2026-01-01",
    None,
    "n/a",
    "2025-12-31T23:30:00-01:00",
    "2026-02-01 00:00:00",
    "9999-12-31",
    "2026-01-31T23:59:59.5Z",
    "31.01.2026",
]
# type, bounds, rows that break it, and what is said
DATED = [
    (
        BETWEEN,
        {"min_value": "2026-01-01"},
        [2, 7],
        "not so in 2 of 8 rows (such as n/a, 31.01.2026)",
    ),
    (BETWEEN, {"max_value": "2026-01-31"}, [2, 4, 5, 6, 7], "not so in 5 of 8 rows (such as n/a, "),
    (
        BETWEEN,
        {"min_value": "2026-01-01", "max_value": "2026-02-01T00:00:00Z", "strict_max": True},
        [2, 4, 5, 7],
        "not so in 4 of 8 rows",
    ),
    (
        "column_max_to_be_between",
        {"max_value": "2026-01-31"},
        [],
        "received 'n/a', which is no date",
    ),
]


@pytest.mark.parametrize("most", [100, 3])
def test_texts_are_compared_with_dates(most):
    rules = [_expectation(kind, {"column": "day", **bounds}) for kind, bounds, *_ in DATED]
    rules.append(
        _expectation("column_min_to_be_between", {"column": "good", "min_value": "2026-01-02"})
    )
    columns = {"day": DAYS, "good": ["2026-01-01", "2026-01-02"] * 4}
    *results, (least, _, _) = forked(jobs.judge, columns, rules, most)
    for (check, rows, _), (_, _, expected, message) in zip(results, DATED, strict=True):
        assert (check.verdict, rows) == ("failed", expected)
        assert message in check.message
    assert "received 2026-01-01T00:00:00" in least.message


def _result(rows, count):
    return {"success": False, "result": {"unexpected_index_list": rows, "unexpected_count": count}}


@pytest.mark.parametrize(
    "found",
    [
        _result([1, 2, 3], 4),
        _result([1, 2, 2], 3),
        _result([1, 2, 9], 3),
        _result([{"id": "a"}], 1),
        _result([], 0),
        _result(None, 2),
        {"success": False, "result": {"unexpected_count": 2, "partial_unexpected_list": [1, 2]}},
        {"success": False, "result": {}},
        {"success": False},
    ],
)
def test_rows_that_are_not_all_known_are_none(found):
    assert find_rows(found, 9) is None


def test_rows_that_are_all_known_are_given_in_order():
    assert find_rows(_result([8, 0, 4], 3), 9) == [0, 4, 8]


UNIQUE = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "n"}}


@pytest.mark.parametrize(
    "wrong, says",
    [
        (
            {"type": "expect_nothing", "kwargs": {}},
            "must be an expectation that Great Expectations knows",
        ),
        (
            {"type": UNIQUE["type"], "kwargs": {"columns": "a"}},
            "must be an expectation that Great Expectations knows",
        ),
        (UNIQUE | {"mostly": 0.9}, "must hold only .* Received: mostly"),
        (
            UNIQUE | {"meta": {"severity": "fatal"}},
            r"meta\.severity must be one of warn, quarantine, stop.* fatal",
        ),
        (UNIQUE | {"meta": {"severity": ["warn"]}}, r"meta\.severity must be one of"),
        (UNIQUE | {"meta": "warn"}, "meta must be an object"),
    ],
)
def test_expectation_that_cannot_be_used_is_named(wrong, says):
    with pytest.raises(ProjectError, match=rf"^expectations\.json: expectations\[1\].*{says}"):
        forked(jobs.build, [UNIQUE, wrong])


def test_own_keys_of_great_expectations_are_passed_on():
    (built,) = forked(
        jobs.build, [UNIQUE | {"meta": {"severity": "warn", "why": "x"}, "notes": "n", "id": "7"}]
    )
    assert built["meta"] == {"severity": "warn", "why": "x"} and built["notes"] == "n"


def test_severity_is_the_expectations_own_or_nothing():
    assert [
        read_severity(0, UNIQUE | {"meta": meta}) for meta in ({"severity": "stop"}, {}, None)
    ] == [
        "stop",
        None,
        None,
    ]
    assert read_severity(0, UNIQUE) is None


def test_the_same_expectation_twice_is_judged_twice():
    item = _expectation("column_values_to_be_unique", {"column": "n"})
    first, second = forked(
        jobs.judge, {"n": [1, 1, 2]}, [item, item | {"meta": {"severity": "warn"}}]
    )
    assert [first[1], second[1]] == [[0, 1], []] and {first[0].verdict, second[0].verdict} == {
        "failed"
    }


def test_result_format_of_the_file_does_not_hide_rows():
    (found,) = forked(
        jobs.judge,
        {"n": [1, 1, 2]},
        [
            _expectation(
                "column_values_to_be_unique", {"column": "n", "result_format": "BOOLEAN_ONLY"}
            )
        ],
    )
    assert found[1] == [0, 1]


def test_verdicts_come_in_the_order_of_the_file_with_their_severity(judged):
    items = [
        _expectation("column_values_to_be_unique", {"column": "nowhere"}),
        _expectation("table_row_count_to_be_between", {"min_value": 9}, meta={"severity": "stop"}),
        _expectation("column_values_to_be_unique", {"column": "n"}, meta={"severity": "warn"}),
        _expectation("column_max_to_be_between", {"column": "n", "max_value": 5}),
    ]
    found = forked(jobs.judge, {"n": [1, 2, 2]}, items)
    checks = [check for check, _, _ in found]
    assert [(c.subject, c.verdict, c.severity) for c in checks] == [
        ("nowhere", "failed", "quarantine"),
        ("table", "failed", "stop"),
        ("n", "failed", "warn"),
        ("n", "passed", "quarantine"),
    ]
    assert "`nowhere`" in checks[0].message and "received 3" in checks[1].message
    assert re.search(r"not so in 2 of 3 rows \(such as 2, 2\)", checks[2].message)
    assert [rows for _, rows, _ in found] == [
        [],
        [],
        [],
        [],
    ]  # none to set aside: whole-span failures and a warning
    assert json.loads(checks[0].model_dump_json())
