"""Drift: whether the values of each feature are distributed as they were before.

Every comparison that is made has a distance and a threshold: what the sampling noise of both sides
explains, or what schema.pbtxt sets. One that could not be made says why, and is never passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from components.validate_data.date_parts import is_date
from components.validate_data.drift_distances import (
    MISSING,
    SMALLEST_DIVERGENCE,
    SMALLEST_SHARE,
    Distance,
    Sides,
    align_categories,
    align_numbers,
    as_categories,
    jensen_shannon,
    l_infinity,
    measure_categories,
    measure_numbers,
    missing_share,
    quartiles,
)
from perennial.data.distributions import (
    Distribution,
    count_examples,
    kind,
    merge_feature,
    without_values,
)
from schemas.project import ProjectSettings, Severity
from schemas.records import Check

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature

_LONGEST = 40


@dataclass(frozen=True)
class Baseline:
    """The other side of a comparison: a name for messages, and each feature's distribution."""

    name: str
    distributions: Mapping[str, Distribution]


@dataclass(frozen=True)
class Rules:
    """The rules by which a difference is a failure, and its kind and severity.

    `comparator` is the field of a schema's feature that may set a threshold. `false_alarms` is the
    chance of any alarm where nothing changed: it is shared by all comparisons that have no
    threshold of their own.
    """

    key: str
    label: str
    false_alarms: float
    severity: Severity
    label_severity: Severity
    kind: Literal["drift", "skew"] = "drift"

    @property
    def comparator(self) -> str:
        """Gives the field of a feature in the schema that may set a threshold."""
        return f"{self.kind}_comparator"

    def check(
        self, name: str, verdict: Literal["passed", "failed", "not_compared"], message: str
    ) -> Check:
        """Makes a check of a feature; the label's has a kind and a severity of its own."""
        label = name == self.label and self.kind == "drift"
        severity = self.label_severity if label else self.severity
        kind_ = "label_drift" if label else self.kind
        return Check(kind=kind_, subject=name, verdict=verdict, message=message, severity=severity)


@dataclass(frozen=True)
class _Comparison:
    """A comparison that can be made; `limit` is the schema's threshold, if it sets one."""

    feature: Feature
    baseline: str
    before: Distribution
    after: Distribution
    measure: Literal["L-infinity", "Jensen-Shannon"]
    limit: float | None = None

    @property
    def numbers(self) -> bool:
        """Tells whether numbers are compared, rather than categories."""
        return "numbers" in (kind(self.before), kind(self.after))


def drift_rules(settings: ProjectSettings) -> Rules:
    """Makes the rules of drift by the settings."""
    checks = settings.checks
    return Rules(
        settings.data.key, settings.label, checks.false_alarms, checks.drift, checks.label_drift
    )


def check_drift(
    features: Sequence[Feature],
    span: Mapping[str, Distribution],
    baselines: Sequence[Baseline],
    rules: Rules,
) -> list[Check]:
    """Compares each feature of a span with each baseline.

    One check for every comparison, made or not.

    Args:
        features: Features of the schema that the span should have.
        span: The span's distributions.
        baselines: What came before, such as the span before and the window; none: there was
            nothing.
        rules: Thresholds, severities and the kind of the checks.
    """
    if not baselines:
        names = dict.fromkeys(
            ["all features", *(f.name for f in features if f.name == rules.label)]
        )
        return [
            rules.check(name, "not_compared", "there is no earlier span in the window")
            for name in names
        ]
    examples = count_examples(span)
    items: list[_Comparison | Check] = []
    for feature in features:
        after = span.get(feature.name) or without_values(examples)
        if why := _why_never(feature, after, rules):
            check = rules.check(feature.name, "not_compared", why)
            items.append(check.model_copy(update={"exempt": bool(examples)}))
        else:
            items += [_compare(feature, after, baseline, rules) for baseline in baselines]
    by_chance = sum(isinstance(item, _Comparison) and item.limit is None for item in items)
    level = rules.false_alarms / max(by_chance, 1)
    return [item if isinstance(item, Check) else _judge(item, level, rules) for item in items]


def make_baselines(before: Sequence[Mapping[str, Distribution]]) -> list[Baseline]:
    """Makes the span before and the window of the good spans before, oldest first."""
    if not before:
        return []
    if len(before) == 1:
        return [Baseline("the span before", before[0])]
    # Before the first span that has a feature there was no such feature: that it is new is not a
    # drift.
    since = {
        name: before[place:] for place, span in reversed([*enumerate(before)]) for name in span
    }
    window = {name: merge_feature(name, spans) for name, spans in since.items()}
    return [Baseline("the span before", before[-1]), Baseline("the window", window)]


def _why_never(feature: Feature, span: Distribution, rules: Rules) -> str:
    if feature.name == rules.key:
        return "it is the key, which differs in every row"
    if is_date(feature, span):
        return "it is a date, which moves on from span to span"
    if feature.HasField("image_domain") or (span.total and kind(span) is None):
        return "its values are images or bytes, which are not counted"
    return "there are no rows in this span" if not span.examples else ""


def _compare(
    feature: Feature, after: Distribution, baseline: Baseline, rules: Rules
) -> _Comparison | Check:
    before, limits = (
        baseline.distributions.get(feature.name) or without_values(0),
        getattr(feature, rules.comparator),
    )
    greatest, divergence = (
        limits.HasField("infinity_norm"),
        limits.HasField("jensen_shannon_divergence"),
    )
    if feature.name == rules.label or greatest:
        whole = as_categories(before), as_categories(after)
        if {kind(part) for part in whole} <= {"categories", None}:
            before, after = whole
    numbers = "numbers" in (kind(before), kind(after))
    if why := _why_not(before, after, baseline):
        return rules.check(feature.name, "not_compared", why)
    if divergence and (numbers or not greatest):
        limit = limits.jensen_shannon_divergence.threshold
        return _Comparison(feature, baseline.name, before, after, "Jensen-Shannon", limit)
    if greatest and numbers:
        why = f"infinity_norm of its {rules.comparator} compares categories and these are numbers: "
        return rules.check(feature.name, "not_compared", f"{why}use jensen_shannon_divergence")
    if greatest:
        return _Comparison(
            feature, baseline.name, before, after, "L-infinity", limits.infinity_norm.threshold
        )
    return _Comparison(
        feature, baseline.name, before, after, "Jensen-Shannon" if numbers else "L-infinity"
    )


def _why_not(before: Distribution, after: Distribution, baseline: Baseline) -> str:
    if not any(part.examples for part in baseline.distributions.values()):
        return f"there are no rows in {baseline.name}"
    if not before.total:
        return f"it has no values in {baseline.name}"
    if kind(before) is None:
        return f"its values were not counted in {baseline.name}"
    if after.total and kind(before) != kind(after):
        return f"its values are {kind(after)} in this span and {kind(before)} in {baseline.name}"
    return ""


def _judge(item: _Comparison, level: float, rules: Rules) -> Check:
    sides = (align_numbers if item.numbers else align_categories)(item.after, item.before)
    distance = _measure(item, sides, level)
    failed = distance.value > distance.threshold
    rows = min(sides.first, sides.second)
    message = (
        f"{item.measure} {distance.value:.3g} from {item.baseline}; "
        f"{_allowed(item, distance, rows, rules)}"
    )
    if failed:
        message += f"; {_what_changed(item, distance)}"
    check = rules.check(item.feature.name, "failed" if failed else "passed", message)
    return check.model_copy(update={"distance": distance.value, "threshold": distance.threshold})


def _measure(item: _Comparison, sides: Sides, level: float) -> Distance:
    if item.limit is None:
        return measure_numbers(sides, level) if item.numbers else measure_categories(sides, level)
    if item.measure == "Jensen-Shannon":
        return Distance(jensen_shannon(sides.p, sides.q), item.limit)
    worst = int(abs(sides.p - sides.q).argmax())
    name = sides.names[worst] if sides.names else None
    return Distance(
        l_infinity(sides.p, sides.q),
        item.limit,
        name,
        (float(sides.q[worst]), float(sides.p[worst])),
    )


def _allowed(item: _Comparison, distance: Distance, rows: int, rules: Rules) -> str:
    if item.limit is not None:
        return f"its {rules.comparator} allows {item.limit:.3g}"
    if distance.threshold <= (SMALLEST_DIVERGENCE if item.numbers else SMALLEST_SHARE):
        return f"up to {distance.threshold:.3g} is taken for no change"
    return f"chance explains up to {distance.threshold:.3g} at {rows:,} rows"


def _what_changed(item: _Comparison, distance: Distance) -> str:
    if distance.category is not None and distance.shares is not None:
        name = "missing" if distance.category == MISSING else f"`{_shorten(distance.category)}`"
        return f"{name} went from {_percent(distance.shares[0])} to {_percent(distance.shares[1])}"
    parts, middle = [], [quartiles(part) for part in (item.before, item.after)]
    if middle[0] and middle[1] and middle[0] != middle[1]:
        before, after = (
            ", ".join(f"{value:.3g}" for value in values) for values in middle if values
        )
        parts.append(f"quartiles went from {before} to {after}")
    shares = [_percent(missing_share(part)) for part in (item.before, item.after)]
    if shares[0] != shares[1]:
        parts.append(f"missing went from {shares[0]} to {shares[1]}")
    return " and ".join(parts) or "some values became rarer and others more frequent"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace(".0%", "%")


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
