"""The commit of a project folder, as git tells it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_commit(folder: Path) -> str | None:
    """Gives the commit that a folder is checked out at, or None outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    return commit.strip() if commit is not None else None


def git_state(folder: Path) -> tuple[str | None, bool]:
    """Gives the commit, and whether files of the folder differ from it."""
    commit = git_commit(folder)
    if commit is None:
        return None, False
    return commit, bool(_git(folder, "status", "--porcelain", "--", "."))


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
