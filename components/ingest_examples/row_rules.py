"""Rules for a row to become an example: a key, and a label that the schema allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.readers.convert import Conformed, Plain
from perennial.readers.rows import Reason, shorten
from perennial.schema.domains import domain_of

if TYPE_CHECKING:
    import pyarrow as pa
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema


@dataclass(frozen=True)
class LabelDomain:
    """The labels that the schema allows; None: any."""

    low: float | None = None
    high: float | None = None
    values: frozenset[bytes] | None = None

    def allows(self, label: Plain) -> bool:
        """Tells whether a label lies within the domain."""
        if isinstance(label, bytes):
            return self.values is None or label in self.values
        return (self.low is None or label >= self.low) and (self.high is None or label <= self.high)

    def describe(self) -> str:
        """Describes the domain as the end of "must be ..."."""
        if self.values is not None:
            shown = ", ".join(sorted(value.decode(errors="replace") for value in self.values)[:20])
            return f"one of {shown}"
        if self.low is not None and self.high is not None:
            return f"from {self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"


@dataclass(frozen=True)
class RowRules:
    """The rules for the key and the label of a row."""

    key: str
    label: str
    domain: LabelDomain

    def check(self, values: Conformed) -> list[Reason]:
        """Says why a row of converted values cannot be an example; empty when it can."""
        return [reason for reason in (self._check_key(values), self._check_label(values)) if reason]

    def all_met(self, columns: Mapping[str, pa.Array], rows: int) -> bool:
        """Tells whether all rows of typed columns are examples; lists are left to `check`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        key, label = columns.get(self.key), columns.get(self.label)
        if key is None or label is None or key.null_count or label.null_count:
            return False
        if pa.types.is_large_list(key.type) or pa.types.is_large_list(label.type):
            return False
        if pa.types.is_large_binary(key.type) and pc.min(pc.binary_length(key)).as_py() == 0:
            return False
        if pa.types.is_floating(label.type) and not pc.all(pc.is_finite(label)).as_py():
            return False
        return all(self.domain.allows(value) for value in pc.unique(label).to_pylist())

    def _check_key(self, values: Conformed) -> Reason | None:
        key = values.get(self.key)
        if key is None or key == b"":
            return Reason(f"`{self.key}` (data.key) must be set", "nothing")
        if isinstance(key, list) and len(key) != 1:
            return Reason(f"`{self.key}` (data.key) must be one value", f"{len(key)} values")
        return None

    def _check_label(self, values: Conformed) -> Reason | None:
        label = values.get(self.label)
        if isinstance(label, list):
            if len(label) > 1:
                return Reason(f"`{self.label}` (label) must be one value", f"{len(label)} values")
            label = label[0] if label else None
        if label is None or (isinstance(label, float) and math.isnan(label)):
            return Reason(
                f"`{self.label}` (label) must be set", "nothing" if label is None else "NaN"
            )
        if isinstance(label, float) and math.isinf(label):
            return Reason(f"`{self.label}` (label) must be a finite number", f"{label}")
        if not self.domain.allows(label):
            return Reason(
                f"`{self.label}` (label) must be {self.domain.describe()}", shorten(label)
            )
        return None


def label_domain(schema: Schema | None, label: str) -> LabelDomain:
    """Reads the domain that the schema states for the label."""
    domain = domain_of(schema, label) if schema else None
    if domain is None:
        return LabelDomain()
    values = None if domain.values is None else frozenset(map(str.encode, domain.values))
    return LabelDomain(domain.low, domain.high, values)
