"""The API server of the cluster that this process runs in, as its pod's service account uses it.

Plain JSON over HTTPS: the few calls that a step needs, with the objects as the server has them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from perennial.errors import (
    AbsentError,
    AccessError,
    ClusterError,
    ExistsError,
    PerennialError,
    UnavailableError,
)

# Where Kubernetes mounts the token, the certificates and the namespace of a pod's service account.
ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
# Seconds for which a call is tried again: an API server that is upgraded is away for minutes, and
# what a training did meanwhile must not be lost for it.
PATIENCE = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_TIMEOUTS = (5.0, 60.0)  # seconds to connect, and to wait for an answer
_CONNECTIONS = 8  # kept open: the step's own, and those that logs are followed by
_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_REASON = 500
Object = dict[str, Any]
"""An object of Kubernetes, as JSON has it."""


@dataclass(frozen=True)
class ServiceAccount:
    """The service account of a pod.

    Attributes:
        address: URL of the API server.
        folder: Of its token, which is renewed there, and of the server's certificates.
        namespace: Of the pod.
    """

    address: str
    folder: Path
    namespace: str

    @property
    def token(self) -> str:
        """Reads the token as it is now."""
        return (self.folder / "token").read_text(encoding="utf-8").strip()


def find_service_account(
    environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> ServiceAccount | None:
    """Finds the service account of the pod that this process runs in; None: it has none.

    Args:
        environment: Variables of the process.
        folder: Where the account is mounted.
    """
    environment = os.environ if environment is None else environment
    folder = ACCOUNT_FOLDER if folder is None else folder
    host, namespace = environment.get(_HOST), folder / "namespace"
    if not host or not (folder / "token").is_file() or not namespace.is_file():
        return None
    host = f"[{host}]" if ":" in host else host
    address = f"https://{host}:{environment.get(_PORT, '443')}"
    return ServiceAccount(address, folder, namespace.read_text(encoding="utf-8").strip())


class KubernetesApi:
    """Calls of the API server.

    Args:
        account: Whose calls they are.
        patience: Seconds for which a temporary failure is tried again.

    Raises:
        AccessError: Any method: the account is refused.
        UnavailableError: Any method: nothing answers, for longer than `patience`.
        ClusterError: Any method: the call is refused.
    """

    def __init__(self, account: ServiceAccount, patience: float = PATIENCE) -> None:
        import urllib3

        self.account = account
        self._patience = patience
        self._pool = urllib3.PoolManager(
            ca_certs=str(account.folder / "ca.crt"), retries=False, maxsize=_CONNECTIONS
        )

    def get(self, path: str, **query: str) -> Object | None:
        """Reads an object or a list; None where there is none."""
        try:
            return self._call("GET", _with_query(path, query))
        except AbsentError:
            return None

    def create(self, path: str, body: Object) -> Object:
        """Creates an object.

        Raises:
            ExistsError: There is one of its name, perhaps by this call, whose answer was lost.
        """
        return self._call("POST", path, body)

    def merge(self, path: str, body: Object) -> Object:
        """Changes the fields of an object that the body has (JSON merge patch).

        Raises:
            AbsentError: There is no such object.
        """
        return self._call("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, uid: str, version: str | None = None) -> None:
        """Deletes an object, and what it owns before it; nothing where it is gone already.

        Args:
            path: Of the object.
            uid: The object's: one of the same name that was made since is left alone.
            version: Its resource version; None: any.

        Raises:
            ExistsError: It is another object now, or has another version.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": version} if version else {})
        body = {"propagationPolicy": "Foreground", "preconditions": preconditions}
        try:
            self._call("DELETE", path, body)
        except AbsentError:
            return

    def follow_lines(self, path: str, **query: str) -> Iterator[str]:
        """Gives the lines of a log as they are written, until it ends.

        Raises:
            ClusterError: It cannot be read, or the connection was lost.
        """
        import urllib3

        try:
            response = self._send("GET", _with_query(path, query), None, "", (5.0, None))
            with response:
                if response.status >= 400:
                    raise self._refusal(response.status, response.read(decode_content=True))
                rest = b""
                for part in response.stream(2**16):
                    *lines, rest = (rest + part).split(b"\n")
                    yield from (line.decode("utf-8", "replace") for line in lines)
                if rest:
                    yield rest.decode("utf-8", "replace")
        except urllib3.exceptions.HTTPError as error:
            raise self._silence(error) from None

    def _call(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        import urllib3

        until, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                response = self._send(method, path, body, kind, _TIMEOUTS)
                if response.status < 400:
                    answer: Object = json.loads(response.data)
                    return answer
                error = self._refusal(response.status, response.data)
            except urllib3.exceptions.HTTPError as failure:
                error = self._silence(failure)
            if not isinstance(error, UnavailableError) or time.monotonic() + pause > until:
                raise error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _send(
        self,
        method: str,
        path: str,
        body: Object | None,
        kind: str,
        timeouts: tuple[float, float | None],
    ) -> Any:
        import urllib3

        headers = {"Authorization": f"Bearer {self.account.token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = kind
        return self._pool.request(
            method,
            f"{self.account.address}{path}",
            body=json.dumps(body) if body is not None else None,
            headers=headers,
            timeout=urllib3.Timeout(connect=timeouts[0], read=timeouts[1]),
            preload_content=timeouts[1] is not None,
        )

    def _refusal(self, status: int, body: bytes) -> PerennialError:
        where, reason = f"Kubernetes at {self.account.address}", _reason(status, body)
        if status in (401, 403):
            return AccessError(
                where,
                "must let the step's service account work",
                reason,
                "Give it the rights that docs/kubernetes.md lists.",
            )
        if status == 404:
            return AbsentError(
                where,
                "must know what is asked for",
                reason,
                "Install Kubeflow Trainer 2.3 or newer.",
            )
        if status == 409:
            return ExistsError(where, "must not hold it yet", reason, "Run again.")
        if status in _TEMPORARY:
            return UnavailableError(
                where,
                "must be at work",
                reason,
                "Run again; see whether its control plane is well.",
            )
        return ClusterError(
            where, "must accept the call", reason, "Correct what it names (docs/kubernetes.md)."
        )

    def _silence(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"Kubernetes at {self.account.address}",
            "must answer",
            " ".join(str(error).split())[:_LONGEST_REASON],
            "Run again; see whether a NetworkPolicy keeps the step from the API server.",
        )


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _reason(status: int, body: bytes) -> str:
    """Gives the status of an answer, and what the server says of it."""
    try:
        message = json.loads(body).get("message") or ""
    except (ValueError, AttributeError):
        message = ""
    line = " ".join(f"{status} {message}".split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"
