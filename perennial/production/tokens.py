"""Bearer tokens of the model server: random, kept as SHA-256, each with a name and a purpose.

A token is shown once, when it is made. The file holds what recognises it and nothing that could be
sent in its place.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from perennial.errors import ProjectError
from perennial.project import Project
from perennial.storage.atomic import publish_text
from perennial.storage.locks import hold_file_lock
from schemas.purposes import Purpose
from schemas.records.tokens import Token, TokenFile

PREFIX = "perennial_"  # by which scanners of repositories know a token that was committed
_RANDOM_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_PATIENCE = 10.0  # seconds for another command that changes the file
_FILE = "tokens.json"


def token_file(project: Project) -> Path:
    """Gives the file of a project's tokens, which need not be there."""
    named = project.settings.serving.tokens
    return project.state / _FILE if named is None else project.folder / named


def read_tokens(path: Path) -> list[Token]:
    """Reads the tokens of a file; one that is not there holds none.

    Raises:
        ProjectError: It cannot be read, or is no such file.
    """
    try:
        return TokenFile.model_validate_json(path.read_bytes()).tokens
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        cause = error.strerror if isinstance(error, OSError) else _first(error)
        raise ProjectError(
            str(path),
            "must be a file of tokens",
            cause,
            "Restore it, or remove it and make new tokens with `perennial token add`.",
        ) from None


def add_token(path: Path, name: str, purpose: Purpose) -> str:
    """Makes a token and adds it to a file; gives the token, which is kept nowhere.

    Args:
        path: The file; it is made where there is none.
        name: Of the client or person that will hold it.
        purpose: What it opens.

    Raises:
        ProjectError: The name is taken, or is none.
    """
    if not _NAME.fullmatch(name):
        raise ProjectError(
            "the token's name",
            "must be up to 64 letters, digits, `_`, `.`, `@` and `-`, a letter or digit first",
            ascii(name)[:80],
            "Choose another.",
        )
    secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    with _changing(path) as tokens:
        if any(token.name == name for token in tokens):
            raise ProjectError(
                f"token {name}",
                "must be a new name",
                "one of the tokens that there are",
                f"Choose another, or take that back with `perennial token revoke PROJECT {name}`.",
            )
        created = datetime.now(UTC).replace(microsecond=0)
        tokens.append(Token(name=name, purpose=purpose, digest=_digest(secret), created=created))
    return secret


def revoke_token(path: Path, name: str) -> None:
    """Takes a token back: servers refuse it as soon as they see the changed file.

    Raises:
        ProjectError: There is none of that name.
    """
    with _changing(path) as tokens:
        kept = [token for token in tokens if token.name != name]
        if len(kept) == len(tokens):
            names = ", ".join(token.name for token in tokens) or "no tokens"
            raise ProjectError(
                f"token {name}",
                "must be one of the tokens",
                names,
                "`perennial token list PROJECT` shows them.",
            )
        tokens[:] = kept


def match_token(secret: str, tokens: list[Token]) -> Token | None:
    """Finds the token that a client sent; None: it is none of them.

    The time that it takes says nothing of the tokens: digests are compared, each of them, in
    constant time.
    """
    digest = _digest(secret)
    match = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            match = token
    return match


@contextmanager
def _changing(path: Path) -> Iterator[list[Token]]:
    """Holds a file's tokens for a change, which is written at the end of the block.

    Raises:
        ProjectError: The file cannot be read or written, or another command holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hold_file_lock(path.with_name(f".{path.name}.lock"), _PATIENCE) as held:
            if not held:
                remedy = "Wait for it, then try again."
                raise ProjectError(str(path), "must be free to change", "another command", remedy)
            tokens = read_tokens(path)
            yield tokens
            publish_text(TokenFile(tokens=tokens).model_dump_json(indent=2) + "\n", path)
            os.chmod(path, 0o600)
    except OSError as error:
        raise ProjectError(
            str(path), "must be writable", error.strerror or error, "Correct its rights."
        ) from None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole file'}: {first['msg']}"
