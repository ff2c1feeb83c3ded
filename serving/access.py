"""Who may ask the server, and how much: tokens, rates and sizes, over HTTP and gRPC alike.

No request reaches a model before it has passed here.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perennial.errors import PerennialError, ServingError
from perennial.production.tokens import match_token, read_tokens
from schemas.project import LimitSettings
from schemas.purposes import Purpose
from schemas.records.tokens import Token
from serving.limits import MEGABYTE, RateLimit

Reason = Literal["no_token", "unknown_token", "other_purpose", "rate", "size"]
REASONS: tuple[Reason, ...] = ("no_token", "unknown_token", "other_purpose", "rate", "size")
# Asked by what starts and restarts servers, which holds no token.
PROBES = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
_PREDICTING = ("/v1/", "/v2/")
_REPOSITORY = "/v2/repository/"
_METADATA = "/v2"
_PLAIN_HEADERS = [(b"x-content-type-options", b"nosniff")]
# A page loads nothing from elsewhere, runs only scripts of this server, and stands in no frame.
_PAGE_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        b"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]

logger = logging.getLogger("perennial.serving")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered: its HTTP status, and what the client is told."""

    status: int
    reason: Reason
    message: str
    retry_after: int | None = None


class TokenList:
    """Holds the tokens of a file, and reads it again when it has changed.

    Where there is no file everybody may ask, and the server listens on loopback only. Once there
    was one, nobody may ask without a token again: a file that vanishes, or cannot be read, lets
    nobody in.
    """

    def __init__(self, path: Path | None, look_seconds: float = 0.5) -> None:
        """Reads the file.

        Args:
            path: The file; none: there never is one.
            look_seconds: How long between looks at whether it has changed.

        Raises:
            ProjectError: It is there, and no file of tokens.
        """
        self._path = path
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._seen = self._stamp()
        self.needed = self._seen is not None
        self._tokens = [] if path is None else read_tokens(path)

    def current(self) -> list[Token]:
        """Gives the tokens as the file has them now, or had a moment ago."""
        now = time.monotonic()
        if self._path is not None and now - self._looked >= self._look_seconds:
            with self._lock:
                self._looked = now
                if (stamp := self._stamp()) != self._seen:
                    self._seen = stamp
                    self._read_again(self._path)
        return self._tokens

    def _read_again(self, path: Path) -> None:
        try:
            self._tokens = read_tokens(path)
        except PerennialError as error:
            self._tokens = []
            logger.error("no token is accepted until this is corrected: %s", error)
        else:
            logger.info("%s tokens are accepted", len(self._tokens))
        self.needed = True

    def _stamp(self) -> tuple[int, int, int] | None:
        """Gives what changes with the file, also behind the links of a volume of Kubernetes."""
        if self._path is None:
            return None
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class Access:
    """Decides on requests before anything of them is read.

    Attributes:
        limits: What a request may be.
        refused: How many requests were refused, by reason.
    """

    def __init__(self, tokens: TokenList, limits: LimitSettings) -> None:
        self.limits = limits
        self.refused: Counter[Reason] = Counter()
        self._tokens = tokens
        self._rates = RateLimit(limits)
        self._lock = threading.Lock()

    @property
    def asks_for_tokens(self) -> bool:
        """Tells whether clients must send a token."""
        return self._tokens.needed

    @property
    def most_bytes(self) -> int:
        """Gives the size of the largest body."""
        return int(self.limits.body_mb * MEGABYTE)

    def check(self, authorization: str | None, purposes: Iterable[Purpose]) -> Refusal | None:
        """Decides on one request, and counts it.

        Args:
            authorization: The header of this name, such as `Bearer perennial_…`.
            purposes: Those of which a token may have any.
        """
        tokens = self._tokens.current()
        if not self._tokens.needed:
            return self._check_rate("")
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            message = (
                "the header `authorization` must be `Bearer TOKEN`. Received: "
                f"{'another' if authorization else 'none'}. `perennial token add` makes one."
            )
            return self._refuse(401, "no_token", message)
        token = match_token(secret.strip(), tokens)
        if token is None:
            message = (
                "the token must be one that this server accepts. Received: another. "
                "`perennial token list` shows the names of those that there are."
            )
            return self._refuse(401, "unknown_token", message)
        allowed = sorted(purposes)
        if token.purpose not in allowed:
            message = (
                f"the token must be for {' or '.join(allowed)}. Received: {token.name}, which is "
                f"for {token.purpose}. Make one with `perennial token add --for {allowed[0]}`."
            )
            return self._refuse(403, "other_purpose", message)
        return self._check_rate(token.name)

    def check_size(self, size: int) -> Refusal | None:
        """Decides on a body of so many bytes."""
        if size <= self.most_bytes:
            return None
        message = (
            f"the request's body must be at most {self.limits.body_mb:g} MB. Received: "
            f"{size / MEGABYTE:,.1f} MB or more. Send fewer instances; serving.limits.body_mb sets "
            "the limit."
        )
        return self._refuse(413, "size", message)

    def _check_rate(self, name: str) -> Refusal | None:
        seconds = self._rates.take(name)
        if not seconds:
            return None
        message = (
            f"{f'token {name}' if name else 'all clients together'} may send "
            f"{self.limits.requests_per_second:g} requests in a second. Received: more. Wait "
            f"{seconds:.1f} s; serving.limits.requests_per_second sets the limit."
        )
        return self._refuse(429, "rate", message, math.ceil(seconds))

    def _refuse(
        self, status: int, reason: Reason, message: str, retry_after: int | None = None
    ) -> Refusal:
        with self._lock:
            self.refused[reason] += 1
        return Refusal(status, reason, message, retry_after)


class RefusalCollector(Collector):
    """Tells Prometheus how many requests were refused before a model saw them."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def collect(self) -> Iterable[Metric]:
        """Gives the current counts, 0 for a reason that never occurred."""
        family = CounterMetricFamily(
            "perennial_refused_requests",
            "Requests that were refused for their token, rate or size.",
            labels=["reason"],
        )
        for reason in REASONS:
            family.add_metric([reason], self._access.refused[reason])
        yield family


def open_to(path: str) -> frozenset[Purpose]:
    """Tells which tokens open a path; none: it takes no token.

    What is not one of the protocols' calls is for administration, so that a new page is too.
    """
    if path in PROBES:
        return frozenset()
    if path == _METADATA or (path.startswith(_PREDICTING) and not path.startswith(_REPOSITORY)):
        return frozenset({"predicting"})
    return frozenset({"administration"})


class Gate:
    """Lets requests of HTTP through, or refuses them; adds the headers that protect browsers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket
            await send({"type": "websocket.close"})
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _with_safety(message.get("headers", []))}
            await send(message)

        headers = dict(scope["headers"])
        if (refusal := self._check(scope["path"], headers)) is not None:
            await _send_refusal(refusal, send_safely)
            return
        received = 0

        async def receive_bounded() -> Message:
            """Ends a body without a length where it turns out too large."""
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if (refusal := self._access.check_size(received)) is not None:
                raise HTTPException(refusal.status, refusal.message)
            return message

        await self._app(scope, receive_bounded, send_safely)

    def _check(self, path: str, headers: Mapping[bytes, bytes]) -> Refusal | None:
        """Decides on a request by its head."""
        if purposes := open_to(path):
            authorization = headers.get(b"authorization")
            text = None if authorization is None else authorization.decode("latin-1")
            if (refusal := self._access.check(text, purposes)) is not None:
                return refusal
        length = headers.get(b"content-length", b"")
        return self._access.check_size(int(length) if length.isdigit() else 0)


def is_loopback(host: str) -> bool:
    """Tells whether only this machine reaches an address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def require_loopback(host: str) -> None:
    """Checks the address of a server that everybody may ask.

    Raises:
        ServingError: Other machines reach it.
    """
    if not is_loopback(host):
        raise ServingError(
            "--host",
            "must be on loopback (127.0.0.1 or ::1), as there are no tokens",
            host,
            "Make one first, then clients send it: `perennial token add PROJECT NAME`.",
        )


def _with_safety(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Adds the headers that an answer lacks; a page may have set its own."""
    given = [(name.lower(), value) for name, value in headers]
    names = {name for name, _ in given}
    page = any(name == b"content-type" and b"html" in value.lower() for name, value in given)
    added = [*_PLAIN_HEADERS, *(_PAGE_HEADERS if page else [])]
    return [*given, *(item for item in added if item[0] not in names)]


async def _send_refusal(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"error": refusal.message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    if refusal.status == 413:
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
