"""Categories with line breaks, which a vocabulary leaves out: a warning of the run that meets them."""

from __future__ import annotations

from google.protobuf import text_format
from tensorflow_metadata.proto.v0.schema_pb2 import Schema

from components.validate_data.line_breaks import check_line_breaks
from perennial.data.distributions import Distribution

SCHEMA = """
feature { name: "city" type: BYTES domain: "city" }
feature { name: "shop" type: BYTES }
feature { name: "note" type: BYTES }
feature { name: "gone" type: BYTES domain: "city" }
string_domain { name: "city" value: "Bern" value: "New\\nYork" }
"""


def texts(counts: dict[str, int]) -> Distribution:
    total = sum(counts.values())
    return Distribution(total, 0, total, counts, None, None)


def test_categories_alone_are_warned_of_with_their_count_and_what_to_do():
    """A category has a domain, or values that repeat; free text goes to no vocabulary."""
    features = text_format.Parse(SCHEMA, Schema()).feature
    span = {
        "city": texts({"Bern": 3, "New\nYork": 2}),
        "shop": texts({"north": 50, "south\r\nwing": 50}),
        "note": texts({f"line {number}\nline": 1 for number in range(100)}),
    }
    checks = {check.subject: check for check in check_line_breaks(features, span)}
    assert list(checks) == ["city", "shop"]
    assert all(
        (c.kind, c.verdict, c.severity) == ("schema", "failed", "warn") for c in checks.values()
    )
    message = checks["city"].message
    assert message.startswith("2 of 5 values: a vocabulary of TensorFlow Transform leaves out")
    assert r"`New\nYork`" in message and "features.hashed" in message
    assert checks["shop"].message.startswith("50 of 100 values")


def test_values_without_line_breaks_are_no_warning():
    features = text_format.Parse(SCHEMA, Schema()).feature
    assert check_line_breaks(features, {"city": texts({"Bern": 5})}) == []
