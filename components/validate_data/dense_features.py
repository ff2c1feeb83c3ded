"""Checks that a span has what the schema's dense features need. Pure, but for the reading of it.

A feature of a fixed shape without a default value becomes a dense tensor: an example that lacks it
cannot be read, and nothing of a window that holds one can be trained on. A span that landed before
the feature did is such a span.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from perennial.data.preprocessing import raw_examples
from perennial.errors import ProjectError
from perennial.schema.inference import Seen
from perennial.step_inputs import SCHEMA_FILE
from schemas.records import Check

if TYPE_CHECKING:
    from perennial.project import Project


def dense_sizes(project: Project) -> dict[str, int]:
    """Gives the number of values that an example must have, of each feature that must be there."""
    try:
        kinds = raw_examples(project, "validate_data").TensorRepresentations()
    except ProjectError:  # `analyse_features` says which feature is at fault
        return {}
    return {
        kind.dense_tensor.column_name: math.prod(dim.size for dim in kind.dense_tensor.shape.dim)
        for kind in kinds.values()
        if kind.HasField("dense_tensor") and not kind.dense_tensor.HasField("default_value")
    }


def check_dense(place: str, sizes: Mapping[str, int], seen: Mapping[str, Seen]) -> list[Check]:
    """Makes a failed check for each feature that some example of a span lacks.

    Args:
        place: What messages call the span's file or table.
        sizes: What `dense_sizes` gives.
        seen: What was seen of each feature of the span.
    """
    lacks = [(name, _lack(size, seen.get(name))) for name, size in sizes.items()]
    return [
        Check(
            kind="features",
            subject=name,
            verdict="failed",
            message=f"{place} must have `{name}` in every row, as {SCHEMA_FILE} asks for it "
            f"without a default value. Received: {lack}",
        )
        for name, lack in lacks
        if lack is not None
    ]


def _lack(size: int, seen: Seen | None) -> str | None:
    if seen is None:
        return "no value at all"
    if seen.present < 1:
        return f"a value in {seen.present:.2%} of the rows"
    if seen.fewest == seen.most == size:
        return None
    most = "" if seen.fewest == seen.most else f" to {seen.most}"
    return f"{seen.fewest}{most} values in a row instead of {size}"
