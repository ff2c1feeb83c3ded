"""Takes secrets out of text that is kept: values of variables, and passwords in URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote

from schemas.project import ProjectSettings

MASK = "***"
# Variables that hold a secret, by their names; and those that only say where one lies.
_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|COOKIE|ACCESS_?KEY|API_?KEY|_KEY$|_PAT$", re.I)
_PLACE = re.compile(r"_(FILE|PATH|DIR|FOLDER)$", re.I)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)@")
# Shorter values are words that a log is full of, such as `false`.
_SHORTEST, _SHORTEST_DECLARED = 6, 4


def find_secrets(environment: Mapping[str, str], settings: ProjectSettings) -> list[str]:
    """Lists the secrets that a task knows, the longest first.

    These are the variables whose names say so, those that `kubeflow.secrets` fills, and passwords
    in the URLs of variables and settings.
    """
    declared = {name for one in settings.kubeflow.secrets for name in one.variables.values()}
    table = settings.data.table.url if settings.data.table is not None else None
    urls = (settings.root, settings.ledger.url, settings.registry.uri, table)
    values = set(_lines(_named(environment), _SHORTEST))
    values.update(_lines(_passwords((*environment.values(), *urls)), _SHORTEST_DECLARED))
    values.update(_lines((environment.get(name, "") for name in declared), _SHORTEST_DECLARED))
    spelt = {form for value in values for form in (value, quote(value, safe=""), unquote(value))}
    return sorted(spelt, key=lambda value: (-len(value), value))


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """Gives a text with a mask in the place of secrets, and of the password of every URL."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return _URL_PASSWORD.sub(rf"\1:{MASK}@", text)


def _named(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if _NAME.search(name) and not _PLACE.search(name):
            yield value


def _passwords(texts: Iterable[str | None]) -> Iterator[str]:
    for text in texts:
        yield from (match[2] for match in _URL_PASSWORD.finditer(text or ""))


def _lines(values: Iterable[str], shortest: int) -> Iterator[str]:
    """Gives each line of the values: a log has those of a key in several lines."""
    for value in values:
        yield from (line for line in map(str.strip, value.splitlines()) if len(line) >= shortest)
