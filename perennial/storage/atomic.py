"""Atomic publication: writes under a temporary name, makes it visible last.

A reader sees a file or folder whole or not at all: it is written under a temporary name beside its
destination, flushed to disk, then renamed, which POSIX makes atomic within one file system.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def publish_text(text: str, destination: Path) -> None:
    """Writes `text` to `destination` atomically, replacing what was there."""
    publish_bytes(text.encode("utf-8"), destination)


def publish_bytes(data: bytes, destination: Path) -> None:
    """Writes `data` to `destination` atomically, replacing what was there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, destination)
    except BaseException:
        os.unlink(temporary)
        raise


def publish_folder(source: Path, destination: Path) -> None:
    """Copies a folder to `destination` atomically; does nothing when `destination` exists.

    `destination` must be named after its contents (a digest), so that one that exists is the same.
    """
    if destination.exists():
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        os.chmod(temporary, 0o755)
        os.rename(temporary, destination)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        # A full folder is in the way only when another process published the same contents first.
        if not (isinstance(error, OSError) and destination.exists()):
            raise


def link_tree(source: Path, destination: Path) -> None:
    """Makes `destination` a copy of `source` that shares its bytes where the file system allows.

    Artifacts are never changed once published, so sharing is safe and costs no space.
    """
    shutil.copytree(source, destination, copy_function=_link_or_copy, dirs_exist_ok=True)


def link_file(source: Path, destination: Path) -> None:
    """Makes `destination` a copy of a file that shares its bytes, as `link_tree` does."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    _link_or_copy(str(source), str(destination))


def _link_or_copy(source: str, destination: str) -> str:
    try:
        os.link(source, destination)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, destination)
    return destination
