"""Describes a schema, and the change of one, in words that a person can review."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from perennial.schema.environments import SERVING, is_alive, is_in_environment
from perennial.schema.inference import Seen, count_values, features_of, see_features
from perennial.schema.text import compact

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

_SHOWN_VALUES = 20
_DESCRIBED = ("type", "presence", "shape", "value_count", "lifecycle_stage", "not_in_environment")
_BOUNDS = ("int_domain", "float_domain")
_REPRESENTATIONS = "tensor_representation_group"


def describe_changes(
    before: Schema, after: Schema, statistics: DatasetFeatureStatisticsList
) -> list[str]:
    """Describes each change in one line, in the order of the features.

    Any difference gives at least one line.
    """
    seen, known, updated = see_features(statistics), features_of(before), features_of(after)
    lines: list[str] = []
    for name in [*known, *(name for name in updated if name not in known)]:
        if name not in updated:
            lines.append(f"`{name}`: removed")
        elif name not in known:
            lines.append(f"`{name}`: {_describe_new(updated[name], after, seen.get(name))}")
        else:
            asked_before = is_in_environment(before, known[name], SERVING)
            dropped = asked_before and not is_in_environment(after, updated[name], SERVING)
            changes = _describe_feature(known[name], updated[name], seen.get(name), dropped)
            lines += [f"`{name}`: {change}" for change in changes]
    lines += [*_describe_values(before, after, statistics), *_describe_rest(before, after)]
    return [printable(line) for line in lines] or ["something else than features and values"] * (
        before != after
    )


def _describe_new(feature: Feature, schema: Schema, seen: Seen | None) -> str:
    if not is_alive(feature):
        return "new column without values: PLANNED, models cannot read it yet"
    values = next((d.value for d in schema.string_domain if d.name == feature.domain), None)
    parts = [f"new feature {type_name(feature)}", f"{count_words(feature)}"]
    parts += (
        [f"one of {listed(list(values))}"]
        if feature.HasField("domain") and values is not None
        else []
    )
    parts += [f"in {_percent(seen.present)} of examples"] if seen else []
    return ", ".join(parts) + "; not asked of clients" * (
        not is_in_environment(schema, feature, SERVING)
    )


def _describe_feature(
    before: Feature, after: Feature, seen: Seen | None, dropped: bool
) -> Iterator[str]:
    from tensorflow_metadata.proto.v0 import schema_pb2

    if is_alive(before) and not is_alive(after):
        yield "gone from the data: marked DEPRECATED, models can no longer read it"
        return
    if is_alive(after) and not is_alive(before):
        there = f", in {_percent(seen.present)} of examples" if seen else ""
        yield f"has values now: in use as {type_name(after)}, {count_words(after)}{there}"
        return
    if before.type != after.type:
        yield f"type {type_name(before)} -> {type_name(after)}"
    present = f": in {_percent(seen.present)} of examples" if seen else ""
    if after.presence.min_fraction == 1 > before.presence.min_fraction:
        yield f"asked for in every example{present} (could be missing before)"
    elif before.presence != after.presence:
        was = (
            "always there"
            if before.presence.min_fraction == 1
            else f"{compact(before.presence) or 'not set'}"
        )
        yield f"may be missing{present} (was {was})"
    was, now = (
        count_words(side).removeprefix("at most ") for side in (before, after)
    )  # presence tells the least
    if was != now:
        yield f"holds {now} (was {was})"
    old_places, new_places = list(before.not_in_environment), list(after.not_in_environment)
    if dropped:
        yield "no longer asked of clients"
    elif old_places != new_places:
        yield f"not in environments {new_places} (was {old_places})"
    yield from _describe_bounds(before, after)
    yield from _describe_others(before, after)
    if before.lifecycle_stage != after.lifecycle_stage:
        old, new = (
            schema_pb2.LifecycleStage.Name(side.lifecycle_stage) for side in (before, after)
        )
        yield f"stage {old} -> {new}"


def _describe_bounds(before: Feature, after: Feature) -> Iterator[str]:
    for domain in _BOUNDS:
        if not after.HasField(domain) or before.type != after.type:
            continue
        old, new = getattr(before, domain), getattr(after, domain)
        for end, word in (("min", "smallest"), ("max", "greatest")):
            if getattr(old, end) != getattr(new, end) or old.HasField(end) != new.HasField(end):
                yield f"{word} value {_bound(old, end)} -> {_bound(new, end)}"


def _describe_others(before: Feature, after: Feature) -> Iterator[str]:
    """Describes the changes that no other line mentions."""
    rests = []
    for feature in (before, after):
        rest = type(feature)()
        rest.CopyFrom(feature)
        for field in _DESCRIBED:
            rest.ClearField(field)
        for domain in _BOUNDS:
            if rest.HasField(domain):
                for part in ("name", "min", "max"):
                    getattr(rest, domain).ClearField(part)
        if before.type != after.type:
            rest.ClearField("domain_info")
        rests.append({field.name: value for field, value in rest.ListFields()})
    old, new = rests
    for field in dict.fromkeys([*old, *new]):
        if old.get(field) != new.get(field):
            shown = [
                f"{compact(side[field])}".strip() if field in side else "not set" for side in rests
            ]
            yield f"{field} {shown[0] or 'empty'} -> {shown[1] or 'empty'}"


def _describe_values(
    before: Schema, after: Schema, statistics: DatasetFeatureStatisticsList
) -> Iterator[str]:
    """Describes values that join or leave a list, the most frequent of the span first."""
    known = {domain.name: list(domain.value) for domain in before.string_domain}
    for domain in after.string_domain:
        users = [feature.name for feature in after.feature if feature.domain == domain.name]
        named = ", ".join(f"`{name}`" for name in users) or f"`{domain.name}`"
        old = known.get(domain.name)
        if old is None:
            continue  # told with its feature
        counts = Counter[str]()
        for name in users:
            counts.update(count_values(statistics, name))
        joined = sorted(set(domain.value) - set(old), key=lambda value: (-counts[value], value))
        left = [value for value in old if value not in domain.value]
        for sign, values in (("+", joined), ("-", left)):
            if values:
                yield f"{named}: values {sign}{len(values)}: {listed(values)}"


def _describe_rest(before: Schema, after: Schema) -> Iterator[str]:
    """Describes changes of the schema as a whole, and lists of values that end."""
    ended = {domain.name for domain in before.string_domain} - {
        domain.name for domain in after.string_domain
    }
    yield from (f"list of values `{name}`: removed" for name in sorted(ended))
    described = ("feature", "string_domain")
    old, new = (
        {f.name: value for f, value in side.ListFields() if f.name not in described}
        for side in (before, after)
    )
    yield from (
        f"{field} of the schema changes"
        for field in dict.fromkeys([*old, *new])
        if old.get(field) != new.get(field) and field != _REPRESENTATIONS
    )
    yield from _describe_tensors(before, after)


def _describe_tensors(before: Schema, after: Schema) -> Iterator[str]:
    """Describes features whose default value, or another way of being read, changes."""
    old, new = (
        {
            (group, name): tensor
            for group, tensors in getattr(side, _REPRESENTATIONS).items()
            for name, tensor in tensors.tensor_representation.items()
        }
        for side in (before, after)
    )
    for place in sorted({*old, *new}):
        if old.get(place) == new.get(place):
            continue
        tensor = new.get(place)
        if tensor is None:
            yield f"`{place[1]}`: no default value any more"
        elif tensor.dense_tensor.HasField("default_value"):
            default = tensor.dense_tensor.default_value
            value = getattr(default, default.WhichOneof("kind"))
            shown = repr(value.decode(errors="replace")) if isinstance(value, bytes) else value
            yield f"`{place[1]}`: {shown} where it is missing"
        else:
            yield f"`{place[1]}`: read as {compact(tensor)}"


def type_name(feature: Feature) -> str:
    """Gives INT, FLOAT or BYTES."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    return str(schema_pb2.FeatureType.Name(feature.type))


def count_words(feature: Feature) -> str:
    """Says how many values an example has of a feature."""
    if feature.HasField("shape"):
        sizes = [str(dim.size) for dim in feature.shape.dim]
        return f"a list of {' x '.join(sizes)}" if sizes else "one value"
    fewest, most = feature.value_count.min, feature.value_count.max
    if fewest == most == 1:
        return "at most one value" if feature.presence.min_fraction < 1 else "one value"
    if fewest == most:
        return f"{most} values"
    return f"{fewest} to {most} values" if most else f"{fewest} or more values"


def _bound(domain: object, end: str) -> str:
    is_set = domain.HasField(end)  # type: ignore[attr-defined]
    return f"{getattr(domain, end):g}" if is_set else "not set"


def listed(values: list[str], shown: int = _SHOWN_VALUES) -> str:
    """Puts values on one line; only the first ones where they are many."""
    more = f", and {len(values) - shown} more" if len(values) > shown else ""
    return ", ".join(_apart(printable(value)) for value in values[:shown]) + more


def _apart(value: str) -> str:
    """Quotes a value that would not be told from its neighbours in a list."""
    return f'"{value}"' if not value or "," in value or value != value.strip() else value


def printable(text: str) -> str:
    r"""Writes each character that cannot be seen as its escape, such as \n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share in (0, 1) or 0.01 <= share <= 0.99 else f"{share:.2%}"
