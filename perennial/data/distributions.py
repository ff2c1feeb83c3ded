"""Distributions: how often each value of a feature occurs, kept in a form that adds up over spans.

TensorFlow Data Validation's statistics are summaries for reading; two of them cannot be added up
exactly. A distribution can, which is what makes the statistics of a window cheap: each span is
measured once.
"""

from __future__ import annotations

import heapq
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perennial.storage.atomic import publish_bytes

FloatArray: TypeAlias = NDArray[np.float64]

DISTRIBUTIONS_FILE = "distributions.npz"
# Different values that are counted one by one; an identifier has as many as there are rows.
CATEGORIES = 100_000
KNOTS = (
    1024  # ranks then err by less than 0.1%, below the sampling noise of a span of 100,000 values
)
SKETCH_ERROR = 0.0005  # of the ranks at the knots
RANK_ERROR = (
    1 / (KNOTS - 1) + 2 * SKETCH_ERROR
)  # of `cumulative` as a step function, as a share of all values


@dataclass(frozen=True)
class Distribution:
    """The values of one feature over some examples.

    At most one of `counts` and `knots` is there; neither is when there were no values, or they were
    bytes that are no categories (images). NaN and infinities are values, but stand at no knot:
    `total - cumulative[-1]` of them.

    Numbers with at most `KNOTS` different values in a span are counted exactly. Otherwise the knots
    are quantiles, and at any point the share of values that the step function gives errs by at most
    `RANK_ERROR`; it is never below the truth by more than that, nor above it by more than
    `SKETCH_ERROR`.
    """

    examples: int  # examples measured
    missing: int  # of these, without the feature
    total: int  # values (several per example are possible)
    counts: dict[str, int] | None  # categories: value -> number of values; exact unless `capped`
    knots: FloatArray | None  # numbers: ascending distinct values, float64 [k]
    cumulative: (
        FloatArray | None
    )  # numbers: number of values <= knot, float64 [k]; last == finite values
    # Categories: rare values beyond the cap are left out, or those of a part without counts.
    capped: bool = False


def merge(parts: Sequence[Distribution]) -> Distribution:
    """Merges the distributions of a feature in several spans; oldest span first.

    Where a feature was categories in one span and numbers in another, the newest kind counts; the
    examples with the other kind are as if they lacked the feature. Counts are added up exactly.
    Knots are joined, and each part is a step function between its own, so that merging adds no
    error.
    """
    newest = next((kind(part) for part in reversed(parts) if kind(part)), None)
    kept = [
        part if kind(part) in (None, newest) else without_values(part.examples) for part in parts
    ]
    examples, missing, total = (
        sum(getattr(part, name) for part in kept) for name in ("examples", "missing", "total")
    )
    counts, capped = _merge_counts(kept)
    knots, cumulative = _merge_numbers(kept)
    return Distribution(examples, missing, total, counts, knots, cumulative, capped)


def merge_spans(spans: Sequence[Mapping[str, Distribution]]) -> dict[str, Distribution]:
    """Merges the distributions of several spans, feature by feature; oldest span first."""
    return {
        name: merge_feature(name, spans)
        for name in dict.fromkeys(name for span in spans for name in span)
    }


def merge_feature(name: str, spans: Sequence[Mapping[str, Distribution]]) -> Distribution:
    """Merges one feature's distributions; all examples of a span without the feature miss it.

    A span is measured for every feature that any of its examples has, so this is what it says.
    """
    return merge([span.get(name) or without_values(count_examples(span)) for span in spans])


def count_examples(span: Mapping[str, Distribution]) -> int:
    """Counts the examples that a span's distributions were measured over."""
    return max((part.examples for part in span.values()), default=0)


def without_values(examples: int) -> Distribution:
    """Gives the distribution of a feature that none of the examples has."""
    return Distribution(examples, examples, 0, None, None, None)


def kind(part: Distribution) -> str | None:
    """Gives the kind of the values: `categories`, `numbers`, or None if they were not counted."""
    if part.counts is not None:
        return "categories"
    return None if part.knots is None else "numbers"


def most_frequent(
    counts: Mapping[str, int], number: int, whole_numbers: bool = False
) -> list[tuple[str, int]]:
    """Gives the most frequent values first; of equally frequent ones the greater, as TFDV does."""

    def key(item: tuple[str, int]) -> tuple[int, int | str]:
        value, count = item
        return count, int(value) if whole_numbers else value

    if number >= len(counts):
        return sorted(counts.items(), key=key, reverse=True)
    return heapq.nlargest(number, counts.items(), key=key)


def read_distributions(folder: Path) -> dict[str, Distribution]:
    """Reads each feature's distribution from a folder that `compute_statistics` left."""
    with np.load(folder / DISTRIBUTIONS_FILE, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    names = json.loads(arrays["names"].tobytes().decode())
    labels, counts = _unpack_text(arrays["text"], arrays["lengths"]), arrays["counts"].tolist()
    distributions: dict[str, Distribution] = {}
    starts = {"categories": 0, "numbers": 0}
    for name, (examples, missing, total, code, size, capped) in zip(
        names, arrays["table"].tolist(), strict=True
    ):
        of_kind = _KINDS[code]
        here = slice(starts.get(of_kind, 0), starts.get(of_kind, 0) + size)
        starts[of_kind] = here.stop
        distributions[name] = Distribution(
            examples,
            missing,
            total,
            dict(zip(labels[here], counts[here], strict=True)) if of_kind == "categories" else None,
            arrays["knots"][here] if of_kind == "numbers" else None,
            arrays["cumulative"][here] if of_kind == "numbers" else None,
            bool(capped),
        )
    return distributions


def write_distributions(distributions: Mapping[str, Distribution], folder: Path) -> None:
    """Writes `folder/distributions.npz`, whole or not at all.

    All features share a few flat arrays, since a member of the archive costs more to open than to
    read.
    """
    parts = list(distributions.values())
    labels = [label.encode() for part in parts for label in part.counts or {}]
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        allow_pickle=False,
        names=np.frombuffer(json.dumps(list(distributions)).encode(), np.uint8),
        table=np.array([_row(part) for part in parts], np.int64).reshape(-1, 6),
        text=np.frombuffer(b"".join(labels), np.uint8),
        lengths=np.array([len(label) for label in labels], np.int64),
        counts=np.array(
            [count for part in parts for count in (part.counts or {}).values()], np.int64
        ),
        knots=np.concatenate([_NOTHING, *(part.knots for part in parts if part.knots is not None)]),
        cumulative=np.concatenate(
            [_NOTHING, *(part.cumulative for part in parts if part.cumulative is not None)]
        ),
    )
    publish_bytes(stream.getvalue(), folder / DISTRIBUTIONS_FILE)


_NOTHING = np.empty(0, np.float64)
_KINDS = ("none", "categories", "numbers")  # the file holds their places in this row


def _merge_counts(parts: Sequence[Distribution]) -> tuple[dict[str, int] | None, bool]:
    if all(part.counts is None for part in parts):
        return None, False
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts or {})
    uncounted = any(part.total and part.counts is None for part in parts)
    capped = uncounted or len(counts) > CATEGORIES or any(part.capped for part in parts)
    return dict(most_frequent(counts, CATEGORIES) if len(counts) > CATEGORIES else counts), capped


def _merge_numbers(parts: Sequence[Distribution]) -> tuple[FloatArray | None, FloatArray | None]:
    pairs = [
        (p.knots, np.diff(p.cumulative, prepend=0.0))
        for p in parts
        if p.knots is not None and p.cumulative is not None
    ]
    if not pairs:
        return None, None
    knots, places = np.unique(np.concatenate([knots for knots, _ in pairs]), return_inverse=True)
    steps = np.bincount(places, np.concatenate([steps for _, steps in pairs]), minlength=len(knots))
    return knots, np.cumsum(steps)


def _row(part: Distribution) -> list[int]:
    size = (
        len(part.counts)
        if part.counts is not None
        else 0
        if part.knots is None
        else len(part.knots)
    )
    return [
        part.examples,
        part.missing,
        part.total,
        _KINDS.index(kind(part) or "none"),
        size,
        int(part.capped),
    ]


def _unpack_text(text: NDArray[np.uint8], lengths: NDArray[np.int64]) -> list[str]:
    whole, ends = text.tobytes(), np.cumsum(lengths)
    return [
        whole[start:end].decode()
        for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    ]
