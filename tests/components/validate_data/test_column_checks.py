"""Columns.

Missing, new, renamed or in another order, each named with what was expected and received.
"""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from components.validate_data.column_checks import ORDER, check_columns, training_features
from tests.components.validate_data.spans import COLUMNS, SCHEMA

FILE = "data/3.csv"


def schema(extra: str = "") -> schema_pb2.Schema:
    return text_format.Parse(SCHEMA + extra, schema_pb2.Schema())


def check(columns, previous=COLUMNS, ordered=True, extra=""):
    return check_columns(FILE, columns, schema(extra), previous, ordered, "stop")


def failed(columns, **arguments):
    return {c.subject: c.message for c in check(columns, **arguments) if c.verdict == "failed"}


def test_columns_as_they_should_be():
    checks = check(COLUMNS)
    assert [c.verdict for c in checks] == ["passed", "passed"] and {c.severity for c in checks} == {
        "stop"
    }


def test_missing_column_names_the_file_what_is_expected_and_what_came():
    found = failed(["id", "zone", "label"])
    assert found == {"fare": f"{FILE} must have the column `fare`. Received: id, zone, label"}


def test_new_column():
    found = failed([*COLUMNS, "tip"])
    assert (
        list(found) == ["tip"]
        and "Received: `tip` too" in found["tip"]
        and "id, fare, zone, label" in found["tip"]
    )


@pytest.mark.parametrize("became", ["fares", "Fare", "fare_"])
def test_renamed_column_is_one_finding(became):
    found = failed(["id", became, "zone", "label"])
    assert list(found) == ["fare"] and f"Did `fare` become `{became}`?" in found["fare"]


def test_two_that_do_not_resemble_are_two_findings():
    assert set(failed(["id", "temperature", "zone", "label"])) == {"fare", "temperature"}


def test_optional_feature_may_be_missing_but_not_be_renamed():
    extra = 'feature { name: "comment" type: BYTES }'
    assert not failed(COLUMNS, extra=extra)
    assert list(failed([*COLUMNS, "comments"], extra=extra)) == ["comment"]


def test_other_order_matters_where_order_carries_meaning():
    swapped = ["id", "zone", "fare", "label"]
    assert not failed(swapped, ordered=False)
    found = failed(swapped)
    assert (
        list(found) == [ORDER] and "differ from `zone` on" in found[ORDER] and FILE in found[ORDER]
    )


def test_order_without_a_span_before_is_not_compared():
    assert [c.verdict for c in check(COLUMNS, previous=None)] == ["passed", "not_compared"]


def test_schema_without_features_compares_nothing():
    (only,) = check_columns(FILE, COLUMNS, schema_pb2.Schema(), None, False, "warn")
    assert only.verdict == "not_compared"


def test_features_of_training():
    extra = """
    feature { name: "served" type: INT not_in_environment: "TRAINING" }
    feature { name: "old" type: INT lifecycle_stage: DEPRECATED }
    """
    assert [feature.name for feature in training_features(schema(extra))] == COLUMNS


@given(st.lists(st.sampled_from([*COLUMNS, "fares", "Zone", "x", "y"]), unique=True))
def test_verdict_fails_just_when_columns_differ(columns):
    checks = check(columns, ordered=False)
    assert any(c.verdict == "failed" for c in checks) == (set(columns) != set(COLUMNS))
    said = " ".join(c.message for c in checks)
    assert all(f"`{name}`" in said for name in set(columns) ^ set(COLUMNS))
