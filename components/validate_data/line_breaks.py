"""Warns of categories with line breaks, which no vocabulary holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from perennial.data.distributions import Distribution
from perennial.schema.doubts import describe_left_out, with_line_breaks
from perennial.schema.inference import LEAST_REPEATS
from schemas.records import Check

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature


def check_line_breaks(
    features: Sequence[Feature], distributions: Mapping[str, Distribution]
) -> list[Check]:
    """Makes a check that warns for each category of a span with line breaks in its values.

    A category has a domain, or values that repeat; other text is not looked up in a vocabulary.

    Args:
        features: What the span should have.
        distributions: Of the span.
    """
    checks = []
    for feature in features:
        values = distributions.get(feature.name)
        if values is None or not values.counts:
            continue
        if feature.HasField("domain") or values.total >= LEAST_REPEATS * len(values.counts):
            lost = with_line_breaks(values.counts)
            rows = sum(values.counts[value] for value in lost)
            if lost:
                checks.append(
                    Check(
                        kind="schema",
                        subject=feature.name,
                        verdict="failed",
                        message=f"{rows:,} of {values.total:,} values: {describe_left_out(lost)}",
                        severity="warn",
                    )
                )
    return checks
