"""Who decides: the person behind a command, as the ledger names them."""

from __future__ import annotations

import getpass
import os


def person() -> str:
    """The account that runs the command, or its number where the system knows no name for it (in a container)."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return f"user {os.getuid()}"
