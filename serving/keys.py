"""The keys of a request's instances: what traffic is split by, and what labels are joined by.

A key is the value of the feature `data.key`. Every instance may have it, also where the model does
not take that feature. Pure: no TensorFlow, no KServe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from perennial.errors import InputError
from perennial.readers.values import is_base64, to_bytes
from serving.inputs import Tensor

Keys = list[str | None]


def key_text(value: object) -> str | None:
    """Gives a key as text, the same for every form that a client may send it in.

    None: there is none, or a value that cannot be a key.
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        return key_text(value[0])
    if is_base64(value):
        try:
            value = to_bytes(value)
        except ValueError:
            return None
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) or None


def keys_v1(payload: object, key: str) -> Keys:
    """Gives the key of each instance of a v1 request; nothing where it has no instances."""
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(instances, list):
        return []
    return [key_text(each.get(key)) if isinstance(each, dict) else None for each in instances]


def without_key_v1(payload: object, key: str) -> object:
    """Gives a v1 request without the keys of its instances, for a model that does not take them."""
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or not isinstance(instances, list):
        return payload
    bare = [
        {name: value for name, value in each.items() if name != key}
        if isinstance(each, dict)
        else each
        for each in instances
    ]
    return payload | {"instances": bare}


def keys_v2(tensors: Sequence[Tensor], key: str) -> Keys:
    """Gives the key of each instance of a v2 request; nothing where it has no tensor of keys."""
    data = next((tensor.data for tensor in tensors if tensor.name == key), None)
    return [key_text(value) for value in data] if isinstance(data, list | tuple) else []


def keys_of_rows(keys: Keys, given: str | None, rows: int) -> Keys:
    """Gives each of a request's rows its own key, or the one that was given with the request.

    Raises:
        InputError: There are keys, but not one for each row.
    """
    if keys and len(keys) != rows:
        raise InputError(
            "the tensor of keys",
            f"must hold one key for each of the {rows} instances",
            len(keys),
            "Send one for each, or none.",
        )
    return [key or given for key in keys] or [given] * rows
