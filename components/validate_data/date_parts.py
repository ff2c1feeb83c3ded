"""Takes dates apart for drift: a date moves on from span to span, but parts of it should not.

The time of day moves when a producer changes its time zone; the weekdays change when weekends go
missing; the distance to the span's own date moves when old rows are delivered as new ones. Each
part becomes a distribution of its own, under a name that stands for feature and part.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from perennial.data.distributions import KNOTS, Distribution, FloatArray, merge
from schemas.records import Check

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature

Part = Literal["time of day", "weekday", "distance to the span's date", "date"]
PARTS: tuple[Part, ...] = get_args(Part)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
_LOOKED_AT = 100
_EPOCH = datetime(1970, 1, 1)
_HOUR = 3600.0
_DAY = 24 * _HOUR
# Seconds in a unit of the schema's `time_domain`, by its `integer_format`.
_SECONDS = {
    "UNIX_DAYS": _DAY,
    "UNIX_HOURS": _HOUR,
    "UNIX_MINUTES": 60.0,
    "UNIX_SECONDS": 1.0,
    "UNIX_MILLISECONDS": 1e-3,
    "UNIX_MICROSECONDS": 1e-6,
    "UNIX_NANOSECONDS": 1e-9,
}


@dataclass(frozen=True)
class _Moments:
    """Dates as seconds since 1970, as they are written (no zone is applied), and their counts."""

    seconds: FloatArray
    counts: FloatArray


def is_date(feature: Feature, part: Distribution) -> bool:
    """Tells whether a feature holds dates: by its `time_domain`, or as text in ISO form."""
    names = list(itertools.islice(part.counts or {}, _LOOKED_AT))
    return feature.HasField("time_domain") or (
        bool(names) and all(_DATE.fullmatch(name) for name in names)
    )


def part_name(feature: str, part: Part) -> str:
    """Names a part of a feature, as no feature of a schema is called."""
    return f"{feature}\0{part}"


def is_part(name: str) -> bool:
    """Tells whether a name is that of a part."""
    return "\0" in name


def date_parts(feature: Feature, values: Distribution, span: str) -> dict[str, Distribution]:
    """Gives the distributions of the parts of a feature's dates in one span, by their names.

    A part is left out where its values mean nothing: the time of day of a span that is not a day
    and covers less than one, the weekdays of less than a week, the distance to a span that has no
    date. Dates that were counted in part only have no parts.

    Args:
        feature: Of the schema.
        values: Its distribution in the span.
        span: Name of the span.
    """
    moments = _read(feature, values)
    if moments is None or not len(moments.seconds):
        return {}
    day = _date_of(span)
    seconds, covered = moments.seconds, float(np.ptp(moments.seconds))
    parts: dict[Part, Distribution] = {"date": _numbers(values, seconds // _HOUR, moments.counts)}
    if day is not None or covered >= _DAY:
        parts["time of day"] = _numbers(values, (seconds % _DAY) // 60 / 60, moments.counts)
    if covered >= 6 * _DAY:
        parts["weekday"] = _weekdays(values, moments)
    if day is not None:
        since = (datetime(day.year, day.month, day.day) - _EPOCH).total_seconds()
        distance = (seconds - since) // _HOUR / 24
        parts["distance to the span's date"] = _numbers(values, distance, moments.counts)
    return {part_name(feature.name, part): parts[part] for part in PARTS if part in parts}


def merge_parts(spans: Iterable[Mapping[str, Distribution]]) -> dict[str, Distribution]:
    """Merges the parts of several spans; a span without a part does not count."""
    by_name: dict[str, list[Distribution]] = {}
    for span in spans:
        for name, part in span.items():
            by_name.setdefault(name, []).append(part)
    return {name: merge(parts) for name, parts in by_name.items()}


def features_of_parts(parts: Mapping[str, Distribution]) -> list[Feature]:
    """Makes a feature for each part, so that it is compared as one of the schema is."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    return [schema_pb2.Feature(name=name) for name in parts]


def checks_of_dates(checks: Sequence[Check]) -> list[Check]:
    """Turns the checks of parts into checks of the features that they are part of.

    Dates that stay where they are (the start of a campaign) are further from each new span: a
    distance that moved is no drift where the dates themselves did not move.
    """
    kept, still = (
        [],
        Counter(
            check.subject.partition("\0")[0]
            for check in checks
            if check.subject.endswith("\0date") and check.verdict == "passed"
        ),
    )
    for check in checks:
        feature, _, part = check.subject.partition("\0")
        if part == "date":
            continue
        fixed = check.verdict == "failed" and part.startswith("distance") and still[feature] > 0
        kept.append(
            check.model_copy(
                update={
                    "subject": feature,
                    "message": f"its {part}: {check.message}",
                    "exempt": check.verdict == "not_compared",
                    **({"verdict": "passed"} if fixed else {}),
                }
            )
        )
    return kept


def _read(feature: Feature, values: Distribution) -> _Moments | None:
    """Reads the dates of a distribution; None where they were not all counted or have no unit."""
    if values.counts is not None:
        if values.capped:
            return None
        form = feature.time_domain.string_format if feature.HasField("time_domain") else ""
        read = [(_parse(text, form), count) for text, count in values.counts.items()]
        known = [(moment, count) for moment, count in read if moment is not None]
        return _Moments(
            np.array([(moment - _EPOCH).total_seconds() for moment, _ in known], np.float64),
            np.array([count for _, count in known], np.float64),
        )
    if values.knots is None or values.cumulative is None or not feature.HasField("time_domain"):
        return None
    from tensorflow_metadata.proto.v0 import schema_pb2

    unit = _SECONDS.get(
        schema_pb2.TimeDomain.IntegerTimeFormat.Name(feature.time_domain.integer_format)
    )
    if unit is None:
        return None
    return _Moments(values.knots * unit, np.diff(values.cumulative, prepend=0.0))


def _parse(text: str, form: str) -> datetime | None:
    """Reads a date as it is written, whatever its zone."""
    try:
        moment = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=None)


def _date_of(span: str) -> date | None:
    try:
        return date.fromisoformat(span)
    except ValueError:
        return None


def _numbers(
    values: Distribution,
    numbers: FloatArray,
    counts: FloatArray,
) -> Distribution:
    knots, places = np.unique(numbers, return_inverse=True)
    cumulative = np.cumsum(np.bincount(places, counts)).astype(np.float64)
    return _scaled(values, knots, cumulative)


def _scaled(
    values: Distribution,
    knots: FloatArray,
    cumulative: FloatArray,
) -> Distribution:
    """Makes a distribution of numbers.

    Quantiles of many values are no sample of that many times of day: they count for as many
    examples as there are quantiles, so that their own roughness is not taken for drift.
    """
    sketched = values.knots is not None and len(values.knots) >= KNOTS
    share = min(1.0, KNOTS / max(values.examples, 1)) if sketched else 1.0
    examples, missing, total = (
        round(number * share) for number in (values.examples, values.missing, values.total)
    )
    return Distribution(examples, missing, total, None, knots, cumulative * share)


def _weekdays(values: Distribution, moments: _Moments) -> Distribution:
    """Counts weekdays as if the dates covered each of them equally often."""
    days = (moments.seconds // _DAY).astype(np.int64)
    weekdays = (days + 3) % 7  # 1 January 1970 was a Thursday
    counts = np.bincount(weekdays, moments.counts, minlength=7)
    first, last = int(days.min()), int(days.max())
    whole, rest = divmod(last - first + 1, 7)
    covered = np.full(7, float(whole))
    covered[[(first + 3 + more) % 7 for more in range(rest)]] += 1
    rates = counts / covered
    shares = np.rint(counts.sum() * rates / rates.sum()).astype(int)
    named = {name: int(count) for name, count in zip(_WEEKDAYS, shares, strict=True) if count}
    return Distribution(values.examples, values.missing, values.total, named, None, None)
