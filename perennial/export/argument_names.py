"""Names of a SavedModel's arguments for features of any name.

A column of a file may be called `sepal length (cm)`; an argument of a TensorFlow signature may not.
The two meet here and nowhere else: the contract of a model keeps both, users see their own.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

# TensorFlow rewrites other names, and compares names without case.
_TAKEN_AS_IT_IS = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# What Python takes for no name of a parameter, and the first one of a loaded signature.
_RESERVED = frozenset(name.lower() for name in (*keyword.kwlist, "self"))
_LONGEST = 60


def argument_names(features: Iterable[str]) -> dict[str, str]:
    """Gives each feature the name of its argument: its own where TensorFlow takes that.

    No two are the same, not even without case.
    """
    names = sorted(features)
    arguments: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        if _TAKEN_AS_IT_IS.fullmatch(name) and name.lower() not in _RESERVED | used:
            arguments[name] = name
            used.add(name.lower())
    for name in (name for name in names if name not in arguments):
        base = f"feature_{re.sub(r'[^A-Za-z0-9]+', '_', name)}".rstrip("_")[:_LONGEST]
        number = 1
        argument = base
        while argument.lower() in used:
            number += 1
            argument = f"{base}_{number}"
        arguments[name] = argument
        used.add(argument.lower())
    return arguments
