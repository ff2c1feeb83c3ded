"""Secrets, which come from environment variables only."""

from __future__ import annotations

import os

from perennial.errors import RefusedMessageError


def read_variable(target: str, name: str) -> str:
    """Reads what a target needs from the environment.

    Raises:
        RefusedMessageError: The variable is not set.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise RefusedMessageError(
            f"{target}: the environment variable {name}",
            "must be set",
            "nothing",
            "Set it for the process that sends messages.",
        )
    return value
