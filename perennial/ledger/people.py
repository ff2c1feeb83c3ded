"""The person behind a command, as the ledger names them."""

from __future__ import annotations

import getpass
import os


def person() -> str:
    """Gives the account that runs the command, or its number if it has no name (in a container)."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return f"user {os.getuid()}"
