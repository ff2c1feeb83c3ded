"""Rows of the prediction log: what a server was asked and answered, as Arrow tables."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ProjectError
from schemas.prediction_log import (
    ARM,
    ASSIGNED,
    CHANCE,
    CONTRACT,
    FEATURE,
    INSTANCE,
    KEY,
    LATENCY,
    OUTPUT,
    REQUEST,
    TEST,
    TIME,
    VERSION,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from perennial.project import Project

Array = np.ndarray[Any, np.dtype[Any]]
_OVERHEAD = 200  # bytes of memory of one answer, beside its values


@dataclass(frozen=True)
class LoggedAnswer:
    """One arm's answer to one request.

    Attributes:
        request: The request's id.
        arm: `champion`, `challenger` or `shadow`.
        assigned: The arm that the split gave the request.
        test: Number of the A/B test that was running; None: there was none.
        version: The registry version that answered.
        contract: Digest of its contract.
        time: When the request came, in UTC.
        latency_ms: How long the request took.
        chance: With which probability it was logged.
        keys: What identifies each instance, as text; None: the request said nothing of it.
        features: One array [n, ...] for each feature, as the model took it; text as UTF-8 bytes.
        outputs: One array [n, ...] for each output.
    """

    request: str
    arm: str
    assigned: str
    test: int | None
    version: str
    contract: str
    time: datetime
    latency_ms: float
    chance: float
    keys: Sequence[str | None] | None
    features: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def rows(self) -> int:
        """Gives the number of its instances."""
        return next(len(values) for values in (*self.outputs.values(), *self.features.values()))

    @property
    def size(self) -> int:
        """Gives about how many bytes of memory it takes."""
        arrays = (*self.features.values(), *self.outputs.values())
        return _OVERHEAD + sum(map(_size, arrays))


@dataclass(frozen=True)
class Masks:
    """Features that are not logged as they are.

    Attributes:
        key: Name of the feature that identifies an example, `data.key`.
        dropped: Names of features that are left out.
        hashed: Names of features whose values are hashed.
        secret: Of the hashes.
    """

    key: str
    dropped: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    secret: bytes = b""

    @classmethod
    def of_project(cls, project: Project) -> Masks:
        """Reads them from the settings, and the secret from the environment.

        Raises:
            ProjectError: The environment variable of the secret is not set.
        """
        log = project.settings.serving.log
        secret = os.environ.get(log.secret or "", "")
        if log.hashed and not secret:
            raise ProjectError(
                f"environment variable {log.secret} (serving.log.secret)",
                "must hold the secret that features of the prediction log are hashed with",
                "nothing",
                "Set it, to the same value wherever the log is written or read.",
            )
        return cls(
            project.settings.data.key,
            frozenset(log.dropped),
            frozenset(log.hashed),
            secret.encode(),
        )

    def key_as_logged(self, key: str) -> str:
        """Gives a key as the log holds it."""
        return self.hash(key) if self.key in self.hashed else key

    def hash(self, text: str) -> str:
        """Computes the HMAC-SHA256 of a text, in hexadecimal digits."""
        return hmac.new(self.secret, text.encode("utf-8", "backslashreplace"), "sha256").hexdigest()


def is_sampled(request: str, time: datetime, share: float) -> bool:
    """Decides whether a request is logged: the same for all arms that answered it.

    The decision is a hash of the request's id and of the moment when it came, as clients choose ids
    of their own.
    """
    if share >= 1:
        return True
    # 64 bits of SHA-256 give a number from 0 to 1.
    drawn = f"{request} {time.isoformat()}".encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big") / 2**64 < share


def make_tables(answers: Iterable[LoggedAnswer], masks: Masks) -> list[tuple[date, pa.Table]]:
    """Makes a table of the rows of each day and contract."""
    groups: dict[tuple[date, str], list[LoggedAnswer]] = {}
    for answer in answers:
        day = answer.time.astimezone(UTC).date()
        groups.setdefault((day, answer.contract), []).append(answer)
    return [(day, make_table(group, masks)) for (day, _), group in sorted(groups.items())]


def make_table(answers: Sequence[LoggedAnswer], masks: Masks) -> pa.Table:
    """Makes a table of answers by models of one contract."""
    import pyarrow as pa

    rows = [answer.rows for answer in answers]

    def each(values: Iterable[object], kind: pa.DataType) -> pa.Array:
        """Repeats what is said of an answer for each of its rows."""
        return pa.array(list(values), kind).take(pa.array(np.repeat(np.arange(len(rows)), rows)))

    keys = [
        None if key is None else masks.key_as_logged(key)
        for answer, count in zip(answers, rows, strict=True)
        for key in (answer.keys if answer.keys is not None else [None] * count)
    ]
    columns = {
        REQUEST: each((answer.request for answer in answers), pa.string()),
        INSTANCE: pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in rows])),
        KEY: pa.array(keys, pa.string()),
        TIME: each((answer.time for answer in answers), pa.timestamp("us", "UTC")),
        ARM: each((answer.arm for answer in answers), pa.string()),
        ASSIGNED: each((answer.assigned for answer in answers), pa.string()),
        TEST: each((answer.test for answer in answers), pa.int64()),
        VERSION: each((answer.version for answer in answers), pa.string()),
        CONTRACT: each((answer.contract for answer in answers), pa.string()),
        CHANCE: each((answer.chance for answer in answers), pa.float64()),
        LATENCY: each((answer.latency_ms for answer in answers), pa.float64()),
    }
    for name in sorted({name for answer in answers for name in answer.features}):
        if name not in masks.dropped:
            hashes = masks if name in masks.hashed else None
            parts = [answer.features.get(name) for answer in answers]
            columns[f"{FEATURE}{name}"] = _column(parts, rows, hashes)
    for name in sorted({name for answer in answers for name in answer.outputs}):
        columns[f"{OUTPUT}{name}"] = _column([a.outputs.get(name) for a in answers], rows, None)
    return pa.table(columns)


def _column(parts: Sequence[Array | None], rows: Sequence[int], hashes: Masks | None) -> pa.Array:
    """Makes a column of the arrays of several answers; of an answer without one it is null.

    Args:
        parts: Arrays [n, ...] of one dtype, whose sizes after the first may differ.
        rows: The n of each.
        hashes: Hashes each instance's value; None: it stays as it is.
    """
    import pyarrow as pa

    present = [part for part in parts if part is not None]
    if hashes is not None:
        texts = [
            text
            for part, count in zip(parts, rows, strict=True)
            for text in (_hash_rows(part, hashes) if part is not None else [None] * count)
        ]
        return pa.array(texts, pa.string())
    kind = _kind(present[0])
    alike = len(present) == len(parts) and len({part.shape[1:] for part in present}) == 1
    if alike and present[0].ndim == 1:
        return _flat(np.concatenate(present), kind)
    lists = pa.list_(kind) if present[0].ndim > 1 else kind
    if alike:
        whole = np.concatenate(present)
        size = int(np.prod(whole.shape[1:]))
        offsets = pa.array(np.arange(len(whole) + 1, dtype=np.int32) * size)
        return pa.ListArray.from_arrays(offsets, _flat(whole.reshape(-1), kind))
    chunks = [
        pa.nulls(count, lists)
        if part is None
        else _flat(part, kind)
        if part.ndim == 1
        else pa.array([_flat(row.reshape(-1), kind) for row in part], lists)
        for part, count in zip(parts, rows, strict=True)
    ]
    return pa.concat_arrays(chunks)


def _kind(values: Array) -> pa.DataType:
    import pyarrow as pa

    return pa.string() if values.dtype == object else pa.from_numpy_dtype(values.dtype)


def _flat(values: Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if values.dtype == object:
        return pa.array([_as_text(value) for value in values], kind)
    return pa.array(values, kind)


def _as_text(value: object) -> str:
    """Decodes text; what is not UTF-8 is written with its bytes behind backslashes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _hash_rows(values: Array, masks: Masks) -> list[str]:
    if values.ndim == 1:
        return [masks.hash(_as_text(value)) for value in values.tolist()]
    lists = values.reshape(len(values), -1).tolist()
    return [masks.hash("\n".join(map(_as_text, row))) for row in lists]


def _size(values: Array) -> int:
    return values.nbytes + (
        sum(len(value) for value in values.flat if isinstance(value, bytes | str))
        if values.dtype == object
        else 0
    )
