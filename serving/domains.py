"""Values outside the domains of the schema: counted, flagged in the answer, or refused."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from perennial.errors import InputError
from schemas.project import OutsideDomain
from schemas.records import ServedDomain
from serving.features import TEXT, Array, Feature, show

_MOST_FLAGGED = 20


@dataclass(frozen=True)
class Outside:
    """A value outside its feature's domain, in the instance with this number."""

    instance: int
    feature: str
    expected: str
    received: str

    def __str__(self) -> str:
        where = f"instances[{self.instance}].{self.feature}"
        return f"{where} must be {self.expected}. Received: {self.received}"


@dataclass(frozen=True)
class Flags:
    """The values of one request that are outside their domains: how many, and the first ones."""

    count: int = 0
    first: tuple[Outside, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0

    def as_json(self) -> dict[str, Any]:
        """Gives them as a v1 answer holds them."""
        return {"count": self.count, "first": [asdict(each) for each in self.first]}

    def as_text(self) -> str:
        """Gives them as a v2 answer holds them, whose parameters are no lists."""
        more = f"; … {self.count} in all" if self.count > len(self.first) else ""
        return "; ".join(map(str, self.first)) + more


class DomainCheck:
    """Looks at the values of requests, by the setting `serving.outside_domain`.

    Attributes:
        counts: Feature -> how many of its values were outside its domain. Calls may come from
            several threads at once.
    """

    def __init__(self, action: OutsideDomain = "flag") -> None:
        self._action = action
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    @property
    def refuses(self) -> bool:
        """Tells whether values outside their domains are refused."""
        return self._action == "refuse"

    def check(self, arrays: Mapping[str, Array], features: Sequence[Feature]) -> Flags:
        """Counts the values outside their domains; gives those that the answer is to flag.

        Raises:
            InputError: There is one, and the setting refuses it.
        """
        outside = [each for feature in features for each in _outside(arrays[feature.name], feature)]
        if not outside:
            return Flags()
        with self._lock:
            self.counts.update(each.feature for each in outside)
        first = outside[0]
        if self.refuses:
            where = f"instances[{first.instance}].{first.feature}"
            remedy = (
                "Send one of the domain in schema.pbtxt; serving.outside_domain refuses others."
            )
            raise InputError(where, f"must be {first.expected}", first.received, remedy)
        if self._action == "count":
            return Flags()
        return Flags(len(outside), tuple(outside[:_MOST_FLAGGED]))


def rows_outside(array: Array, feature: Feature) -> Array:
    """Tells of each row of a feature's array whether a value is outside its domain: bool [rows]."""
    if feature.domain is None or not len(array):
        return np.zeros(len(array), bool)
    outside = _is_outside(array, feature, feature.domain).reshape(len(array), -1)
    return np.asarray(outside.any(axis=1))


def shown_outside(row: Array, feature: Feature) -> tuple[str, str]:
    """Shows what the values of a row must be, and the first of them that is not."""
    outside = _outside(row[None], feature)
    return outside[0].expected, outside[0].received


def _outside(array: Array, feature: Feature) -> list[Outside]:
    if feature.domain is None or not array.size:
        return []
    flat = _is_outside(array, feature, feature.domain).reshape(-1)
    if not flat.any():
        return []
    expected, size = feature.domain.describe(), math.prod(array.shape[1:])
    values = array.reshape(-1)
    return [
        Outside(int(at) // size, feature.name, expected, _shown(values[at]))
        for at in np.flatnonzero(flat)
    ]


def _is_outside(array: Array, feature: Feature, domain: ServedDomain) -> Array:
    """Tells of each value whether it is outside; one that is the default is what nobody sent."""
    if feature.dtype == TEXT:
        known = {value.encode() for value in domain.values or ()}
        known.update(str(value).encode() for value in feature.default or ())
        if domain.values is None:
            return np.zeros(array.shape, bool)
        flat = [value not in known for value in array.reshape(-1).tolist()]
        return np.array(flat, bool).reshape(array.shape)
    outside: Array = np.zeros(array.shape, bool)
    if domain.low is not None:
        outside |= array < domain.low
    if domain.high is not None:
        outside |= array > domain.high
    if feature.default:
        outside &= ~np.isin(array, feature.default)
    return outside


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return show(value.decode(errors="backslashreplace"))
    return show(value.item())
