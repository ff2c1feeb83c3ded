"""From the payload of a request to the arrays that a model takes, for both of KServe's protocols.

Pure: no TensorFlow, no KServe, no I/O. Whatever the payload, the outcome is arrays or an
`InputError`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from perennial.errors import InputError
from perennial.readers.json_objects import DuplicateKeyError, parse_unique
from perennial.readers.missing import is_missing
from perennial.readers.values import BASE64, is_base64
from perennial.tasks import LATENT
from serving.features import FLOATS, INTEGERS, TEXT, Array, Feature, show, to_array, to_values
from serving.limits import check_depth, check_rows

DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    TEXT: "BYTES",
}
_INTEGER_TYPES = {
    f"{sign}INT{bits}": np.iinfo(f"{sign}INT{bits}".lower())
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
DEEPEST = 512  # where no setting says less
_FLOAT_TYPES = ("FP16", "FP32", "FP64")
SIGNATURE = "serving_default"
_KEYS = ("instances", "parameters", "signature_name")

Arrays = dict[str, Array]
Features = Sequence[Feature]


@dataclass(frozen=True)
class Tensor:
    """One input tensor of the Open Inference Protocol, as it was received."""

    name: Any
    shape: Any
    datatype: Any
    data: Any


def parse_json(body: bytes, deepest: int = DEEPEST) -> object:
    """Parses the body of a request.

    Args:
        body: JSON.
        deepest: How deep its lists and objects may be nested.

    Raises:
        InputError: It is not JSON, is nested deeper, or an object in it has a key twice.
    """
    check_depth(body, deepest)
    try:
        parsed = orjson.loads(body)
        # Each key has its colon: with as many colons as keys no key is there twice.
        if body.count(b":") == _count_keys(parsed):
            return parsed
    except orjson.JSONDecodeError:
        pass
    try:
        # Also takes NaN and Infinity, so that the message can say which feature holds one.
        return parse_unique(body)
    except DuplicateKeyError as error:
        raise InputError(
            "the request's body",
            "must have each key of an object once",
            f"{show_name(error.key)} twice",
            "Send each value once.",
        ) from None
    except (ValueError, RecursionError) as error:
        cause = "nothing" if not body else str(error)
        raise InputError(
            "the request's body", "must be JSON", cause, 'Send {"instances": [...]}.'
        ) from None


def _count_keys(value: object) -> int:
    """Counts the keys of an object, and of those in it, but for lists that begin otherwise."""
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return sum(map(_count_keys, value))
    return 0


def from_v1(
    payload: object, features: Features, missing: Collection[str] = (), most: int | None = None
) -> Arrays:
    """Converts `{"instances": [...]}` to one array for each feature, with the instances first.

    An instance is an object of the features' values; with exactly one feature it may be the bare
    value. A feature with a default may be left out of an instance, be null, or be one of the words
    that mean "no value" (`missing`). Bytes are `{"b64": "..."}`, as for TensorFlow Serving.

    Raises:
        InputError: The payload does not fit the features, or holds more than `most` instances.
    """
    rows = [
        _row(number, instance, features, missing)
        for number, instance in enumerate(_instances(payload, most))
    ]
    return {feature.name: _from_rows(rows, feature) for feature in features}


def from_v2(
    tensors: Sequence[Tensor],
    features: Features,
    missing: Collection[str] = (),
    most: int | None = None,
) -> Arrays:
    """Converts the tensors of the Open Inference Protocol to one array for each feature.

    The tensor of a feature with a default may be left out: then every row gets the default. So does
    a row whose text is one of the words that mean "no value" (`missing`).

    Raises:
        InputError: A tensor is missing, unknown, sent twice, does not fit its feature, or holds
            more than `most` rows.
    """
    named = {feature.name: feature for feature in features}
    arrays: Arrays = {}
    for number, tensor in enumerate(tensors):
        where = f"inputs[{number}]"
        if not isinstance(tensor.name, str) or tensor.name not in named:
            raise _unknown(f"{where}.name", tensor.name, named)
        if tensor.name in arrays:
            raise InputError(
                where, "must be another feature", f"{tensor.name} again", "Send each feature once."
            )
        place = f"{where} ({tensor.name})"
        arrays[tensor.name] = _from_tensor(tensor, named[tensor.name], place, missing, most)
    if missing := [
        name for name in named if name not in arrays and (not named[name].optional or not arrays)
    ]:
        raise _missing("inputs", missing, arrays)
    _require_equal_rows(arrays)
    rows = len(next(iter(arrays.values())))
    filled = {name: _filled(feature, rows) for name, feature in named.items() if name not in arrays}
    return arrays | filled


def check_keys(payload: object) -> None:
    """Checks that a v1 request asks for nothing that would be ignored.

    Raises:
        InputError: It has an unknown key, or names another signature than the one that serves.
    """
    if not isinstance(payload, dict):
        return
    for name in payload:
        if name not in _KEYS:
            raise _unknown("the request's body", name, _KEYS, "keys")
    signature = payload.get("signature_name", SIGNATURE)
    if signature != SIGNATURE:
        raise InputError(
            "signature_name",
            f"must be `{SIGNATURE}`, the one that serves",
            show(signature),
            "Leave it out.",
        )


def wants_latent(payload: object) -> bool:
    """Tells whether a v1 request asks for the latent vectors, by `"parameters": {"latent": true}`.

    Raises:
        InputError: The parameters are of another form.
    """
    parameters = payload.get("parameters") if isinstance(payload, dict) else None
    remedy = f'Send "parameters": {{"{LATENT}": true}}, or leave them out.'
    if parameters is None:
        return False
    if not isinstance(parameters, dict):
        raise InputError("parameters", "must be an object", show(parameters), remedy)
    if unknown := [name for name in parameters if name != LATENT]:
        raise InputError(
            f"parameters.{show_name(unknown[0])}",
            f"must be `{LATENT}`",
            show_name(unknown[0]),
            remedy,
        )
    value = parameters.get(LATENT, False)
    if not isinstance(value, bool):
        raise InputError(f"parameters.{LATENT}", "must be true or false", show(value), remedy)
    return value


def check_outputs(names: Iterable[object], known: Sequence[str]) -> None:
    """Checks the outputs that a request asks for.

    Raises:
        InputError: The model has no such output.
    """
    for number, name in enumerate(names):
        if name not in known:
            raise _unknown(f"outputs[{number}].name", name, known, "outputs")


def _instances(payload: object, most: int | None) -> list[object]:
    remedy = 'Send {"instances": [...]}.'
    if not isinstance(payload, dict):
        raise InputError("the request's body", "must be an object", show(payload), remedy)
    if "instances" not in payload:
        raise InputError(
            "the request's body", "must have the key `instances`", show(payload), remedy
        )
    instances = payload["instances"]
    if not isinstance(instances, list):
        raise InputError("instances", "must be a list", show(instances), remedy)
    if not instances:
        raise InputError("instances", "must hold at least one instance", "an empty list", remedy)
    check_rows(len(instances), most)
    return instances


def _row(
    number: int, instance: object, features: Features, missing_words: Collection[str]
) -> dict[str, object]:
    where = f"instances[{number}]"
    names = [feature.name for feature in features]
    bare = not isinstance(instance, dict) or (is_base64(instance) and BASE64 not in names)
    if bare or not isinstance(instance, dict):
        if len(features) == 1 and not is_missing(instance, missing_words):
            return {names[0]: instance}
        example = ", ".join(f'"{name}": ...' for name in names)
        raise InputError(where, "must be an object", show(instance), f"Send {{{example}}}.")
    if unknown := [name for name in instance if name not in names]:
        raise _unknown(f"{where}.{show_name(unknown[0])}", unknown[0], names)
    if missing_words:
        instance = {
            name: value for name, value in instance.items() if not is_missing(value, missing_words)
        }
    if missing := [
        feature.name
        for feature in features
        if not feature.optional and feature.name not in instance
    ]:
        raise _missing(where, missing, instance)
    return instance


def _from_rows(rows: list[dict[str, object]], feature: Feature) -> Array:
    if feature.optional:
        sent, fill = [row.get(feature.name) for row in rows], feature.fill()
        values = [fill if value is None else value for value in sent]
    else:
        values = [row[feature.name] for row in rows]
    return to_array(values, feature, lambda number: f"instances[{number}].{feature.name}")


def _filled(feature: Feature, rows: int) -> Array:
    """Repeats the default for every row, [rows, ...]."""
    one = to_array([feature.fill()], feature, lambda _: f"the default of {feature.name}")
    return np.repeat(one, rows, axis=0)


def show_name(name: object) -> str:
    """Shortens a received name, and makes it safe to put into any message."""
    text = ascii(name)[1:-1] if isinstance(name, str) else show(name)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _from_tensor(
    tensor: Tensor, feature: Feature, where: str, missing: Collection[str], most: int | None
) -> Array:
    _require_datatype(tensor.datatype, feature, where)
    shape = _checked_shape(tensor.shape, feature, where)
    # Before anything is made of that many rows: a free length of 0 needs no values for them.
    check_rows(shape[0], most, f"the rows of {where}")
    flat = _flat(tensor.data, shape, where)
    size = math.prod(shape[1:])

    def locate(index: int) -> str:
        return f"{where} row {index // size}" + (f" value {index % size}" if shape[1:] else "")

    if (limits := _INTEGER_TYPES.get(tensor.datatype)) is not None:
        for index, value in enumerate(flat):
            if isinstance(value, int | float) and not limits.min <= value <= limits.max:
                raise InputError(
                    locate(index),
                    f"must be an {tensor.datatype}",
                    show(value),
                    "Send one that fits.",
                )
    if missing and feature.dtype == TEXT:
        flat = _fill_missing(flat, feature, missing, locate)
    exact = feature.dtype in FLOATS and tensor.datatype != DATATYPES[feature.dtype]
    return to_values(flat, feature, locate, exact).reshape(shape)


def _fill_missing(
    flat: list[Any], feature: Feature, missing: Collection[str], locate: Callable[[int], str]
) -> list[Any]:
    """Puts the default where a text is one of the words that mean "no value"."""
    gaps = [index for index, value in enumerate(flat) if is_missing(value, missing)]
    if not gaps:
        return flat
    if feature.default is None or len(feature.default) != 1:
        expected = "must have a value, and data.missing says that this is none"
        raise InputError(locate(gaps[0]), expected, show(flat[gaps[0]]), "Send a value.")
    filled = list(flat)
    for index in gaps:
        filled[index] = feature.default[0]
    return filled


def _require_datatype(datatype: object, feature: Feature, where: str) -> None:
    numeric = feature.dtype in FLOATS + INTEGERS
    if datatype not in ((*_FLOAT_TYPES, *_INTEGER_TYPES, "BOOL") if numeric else ("BYTES",)):
        own = DATATYPES[feature.dtype]
        allowed = f"{own} or a number type that it can hold" if numeric else own
        raise InputError(
            where, f"must have the datatype {allowed}", show_name(datatype), f"Send it as {own}."
        )


def _checked_shape(shape: object, feature: Feature, where: str) -> tuple[int, ...]:
    shape_text = ", ".join(["n", *("any" if size is None else str(size) for size in feature.shape)])
    fits = (
        isinstance(shape, list)
        and len(shape) == 1 + len(feature.shape)
        and all(type(size) is int and size >= 0 for size in shape)
        and all(size in (None, got) for size, got in zip(feature.shape, shape[1:], strict=True))
    )
    if not fits or not isinstance(shape, list):
        received = ascii(shape)[:60] if isinstance(shape, list) and len(shape) < 10 else show(shape)
        raise InputError(
            where,
            f"must have the shape [{shape_text}]",
            received,
            "Correct `shape` or send all values.",
        )
    if shape[0] == 0:
        raise InputError(
            where, "must hold at least one row", "the shape " + ascii(shape), "Send a row."
        )
    return tuple(shape)


def _flat(data: object, shape: tuple[int, ...], where: str) -> list[Any]:
    """Lists a tensor's values in row-major order; they may be nested by shape, or flat."""
    if not isinstance(data, list):
        raise InputError(
            where, "must have its values in the list `data`", show(data), "Send a list."
        )
    values = data
    if any(isinstance(item, list) for item in data):
        for size in shape[1:]:
            if not all(isinstance(item, list) and len(item) == size for item in values):
                raise InputError(
                    where,
                    f"must be nested as its shape {list(shape)}",
                    "ragged lists",
                    "Send it flat.",
                )
            values = [value for item in values for value in item]
    if len(values) != math.prod(shape):
        expected = f"must hold {math.prod(shape)} values, as its shape {list(shape)} says"
        raise InputError(where, expected, show(values), "Correct `shape` or send all values.")
    return values


def _require_equal_rows(arrays: Arrays) -> None:
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        received = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            "inputs",
            "must all have the same number of rows",
            received,
            "Send all features of every row.",
        )


def _missing(where: str, missing: list[str], present: Iterable[object]) -> InputError:
    noun = "feature" if len(missing) == 1 else "features"
    received = ", ".join(show_name(name) for name in list(present)[:10]) or "none"
    return InputError(
        where, f"must have the {noun} {', '.join(missing)}", received, "Send every feature."
    )


def _unknown(where: str, name: object, known: Iterable[str], noun: str = "features") -> InputError:
    names = list(known)
    near = difflib.get_close_matches(name[:200], names, 1) if isinstance(name, str) else []
    remedy = f"Did you mean `{near[0]}`?" if near else "Leave it out."
    return InputError(
        where, f"must be one of the model's {noun} ({', '.join(names)})", show_name(name), remedy
    )
