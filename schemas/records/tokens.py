"""Records of the bearer tokens that the model server accepts."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from schemas.purposes import Purpose
from schemas.records.base import Record


class Token(Record):
    """One token. What clients send is not in it: only its SHA-256 is.

    Attributes:
        name: Of the client or person that holds it.
        purpose: What it opens: predictions, or metrics and pages.
        digest: SHA-256 of the token, in hexadecimal.
        created: When it was made, UTC.
    """

    name: str
    purpose: Purpose
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    created: AwareDatetime


class TokenFile(Record):
    """The file of all tokens of a server."""

    format: Literal[1] = 1
    tokens: list[Token] = []
