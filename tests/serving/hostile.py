"""Bodies that no client should send: bytes, nearly JSON, and tensors that nearly fit.

Shared by the tests and by `benchmarks/robustness.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

JSON_LENGTH = "inference-header-content-length"
_NAMES = ("image", "age", "city", "id", "", "x", "\x00", "instances")
_WORDS = ("", "nan", "NaN", "inf", "-1", "1e400", "true", "\ud800", "Łódź", "\x00", "[[[[")
_DATATYPES = (
    "FP32",
    "FP64",
    "FP16",
    "INT64",
    "INT8",
    "UINT64",
    "BYTES",
    "BOOL",
    "FP99",
    "",
    "fp32",
)
_INTEGERS = st.one_of(st.integers(-3, 5), st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**30]))
_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
_SCALARS = st.one_of(
    st.none(), st.booleans(), _INTEGERS, _FLOATS, st.sampled_from(_WORDS), st.text(max_size=5)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.sampled_from((*_NAMES, "b64", "data")), inner, max_size=4),
    ),
    max_leaves=12,
)
_PARAMETERS = st.one_of(
    _VALUES,
    st.fixed_dictionaries({"latent": _VALUES}),
    st.fixed_dictionaries({"binary_data_size": _VALUES}),
    st.fixed_dictionaries({"binary_data_output": _VALUES, "key": _VALUES}),
)
_TENSORS = st.one_of(
    _VALUES,
    st.fixed_dictionaries(
        {
            "name": st.one_of(st.sampled_from(_NAMES), _VALUES),
            "shape": st.one_of(st.lists(_INTEGERS, max_size=3), st.just([1, 4]), _VALUES),
            "datatype": st.one_of(st.sampled_from(_DATATYPES), _VALUES),
        },
        optional={
            "data": st.one_of(st.lists(_SCALARS, max_size=8), _VALUES),
            "parameters": _PARAMETERS,
        },
    ),
)


@dataclass(frozen=True)
class Hostile:
    """A request that must be answered, or refused with HTTP 400."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def hostile_requests(model: str, width: int = 4) -> st.SearchStrategy[Hostile]:
    """Gives requests for a model's predictions, over v1, v2 and v2 with binary tensors.

    Some would fit a model of images with so many pixels, and one of the tests' models.
    """
    images = st.one_of(st.lists(_FLOATS, min_size=width, max_size=width), _VALUES)
    instance = st.fixed_dictionaries(
        {"image": images},
        optional={
            "age": st.one_of(st.integers(0, 90), _VALUES),
            "city": _VALUES,
            "id": _VALUES,
            "x": _VALUES,
        },
    )
    v1, v2 = f"/v1/models/{model}:predict", f"/v2/models/{model}/infer"
    instances = st.fixed_dictionaries(
        {"instances": st.one_of(st.lists(st.one_of(instance, _VALUES), max_size=3), _VALUES)},
        optional={"parameters": _PARAMETERS, "signature_name": _VALUES, "x": _VALUES},
    ).map(_dump)
    inputs = st.fixed_dictionaries(
        {"inputs": st.one_of(st.lists(_TENSORS, max_size=4), _VALUES)},
        optional={
            "outputs": st.one_of(
                st.lists(st.fixed_dictionaries({"name": _VALUES}), max_size=2), _VALUES
            ),
            "id": _VALUES,
            "parameters": _PARAMETERS,
        },
    ).map(_dump)
    paths = st.sampled_from((v1, v2))
    anything = st.one_of(
        st.binary(max_size=60), _VALUES.map(_dump), st.text(max_size=30).map(_bytes)
    )
    lengths = st.one_of(st.none(), st.integers(-3, 200).map(str), st.just("x"), st.just("9" * 30))
    return st.one_of(
        st.builds(Hostile, paths, st.one_of(anything, instances, inputs)),
        st.builds(Hostile, st.just(v1), instances),
        st.builds(Hostile, st.just(v2), inputs),
        st.builds(_with_binary, st.just(v2), inputs, st.binary(max_size=40), lengths),
    )


def _with_binary(path: str, head: bytes, tail: bytes, length: str | None) -> Hostile:
    return Hostile(path, head + tail, {JSON_LENGTH: str(len(head)) if length is None else length})


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
