"""SHA-256 digests of files, folders and values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from perennial.errors import IntegrityError


def digest_file(path: Path) -> str:
    """Computes the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """Computes the SHA-256 over names and bytes of all files below `folder`, in name order.

    Raises:
        IntegrityError: The folder holds no file, so there is nothing to vouch for.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise IntegrityError(
            str(folder), "must hold the files of a model", "no file", "Run again to rebuild it."
        )
    sha = hashlib.sha256()
    for path in files:
        sha.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode())
    return sha.hexdigest()


def digest_value(value: object) -> str:
    """Computes the SHA-256 of a JSON-serialisable value in a canonical form."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def verify_folder(folder: Path, digest: str) -> None:
    """Checks that a folder still has the digest that was recorded for it.

    Raises:
        IntegrityError: It has another digest, or no files.
    """
    received = digest_folder(folder)
    if received != digest:
        raise IntegrityError(
            f"model in {folder}",
            f"must have the SHA-256 {digest} that was recorded when it was trained",
            received,
            "Do not serve it: promote another version, or run again to train a new one.",
        )
