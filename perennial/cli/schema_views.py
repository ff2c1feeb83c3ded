"""A schema on the screen: a table, or a list where the terminal is narrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perennial.schema.description import count_words, listed, type_name
from perennial.schema.environments import SERVING, TRAINING, environments_of, is_alive

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

_TABLE_WIDTH = 110  # below it a table would fold its cells


class _Row(NamedTuple):
    feature: str
    type: str
    presence: str
    values: str
    domain: str
    environments: str
    thresholds: str


def show_schema(schema: Schema, console: Console) -> None:
    """Prints one row for each feature."""
    rows = [_to_row(schema, feature) for feature in schema.feature]
    if console.width < _TABLE_WIDTH:
        for row in rows:
            console.print(f"[bold]{escape(row.feature)}[/]  {row.type}", highlight=False)
            facts = [fact for fact in row[2:] if fact]
            console.print(f"  [dim]{escape('; '.join(facts))}[/]", highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [name for name in _Row._fields if any(getattr(row, name) for row in rows)]
    for name in shown:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(getattr(row, name)) for name in shown))
    console.print(table, highlight=False)


def _to_row(schema: Schema, feature: Feature) -> _Row:
    required = feature.presence.min_fraction == 1 or feature.HasField("shape")
    presence = "always" if required else f"in {feature.presence.min_fraction:.0%} or more"
    if not required and not feature.presence.min_fraction:
        presence = "optional"
    return _Row(
        feature.name,
        type_name(feature),
        presence if is_alive(feature) else "not in use",
        count_words(feature) if is_alive(feature) else "",
        ", ".join(_domains(schema, feature)),
        _environments(schema, feature),
        ", ".join(_thresholds(feature)),
    )


def _domains(schema: Schema, feature: Feature) -> Iterator[str]:
    kind = feature.WhichOneof("domain_info")
    if kind in ("int_domain", "float_domain"):
        bounds = getattr(feature, kind)
        low = f"{bounds.min:g}" if bounds.HasField("min") else ""
        high = f"{bounds.max:g}" if bounds.HasField("max") else ""
        if low and high:
            yield f"{low} to {high}"
        else:
            yield f"from {low}" if low else f"up to {high}" if high else kind
        if bounds.is_categorical:
            yield "category"
    elif kind in ("domain", "string_domain"):
        named = {domain.name: domain for domain in schema.string_domain}
        domain = feature.string_domain if kind == "string_domain" else named.get(feature.domain)
        if domain:
            yield f"{len(domain.value)} values: {listed(list(domain.value), 5)}"
        else:
            yield f"unknown: {feature.domain}"
        if feature.HasField("distribution_constraints"):
            yield f"in {feature.distribution_constraints.min_domain_mass:.0%} or more"
    elif kind == "bool_domain":
        words = (feature.bool_domain.false_value, feature.bool_domain.true_value)
        yield " or ".join(word for word in words if word) or "0 or 1"
    elif kind:
        yield kind


def _environments(schema: Schema, feature: Feature) -> str:
    if not (schema.default_environment or feature.not_in_environment):
        return "all"
    words = {TRAINING: "training", SERVING: "serving"}
    return ", ".join(words.get(name, name) for name in environments_of(schema, feature)) or "none"


def _thresholds(feature: Feature) -> Iterator[str]:
    distances = {"infinity_norm": "L-infinity", "jensen_shannon_divergence": "JS"}
    for name in ("drift", "skew"):
        if feature.HasField(f"{name}_comparator"):
            comparator = getattr(feature, f"{name}_comparator")
            for distance, short in distances.items():
                if comparator.HasField(distance):
                    yield f"{name} {short} {getattr(comparator, distance).threshold:g}"
