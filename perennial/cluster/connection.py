"""A connection to Kubeflow Pipelines: credentials, patience, and what its refusals mean."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.errors import (
    AbsentError,
    AccessError,
    ClusterError,
    ExistsError,
    PerennialError,
    ProjectError,
)
from perennial.project import Project

if TYPE_CHECKING:
    from kfp_server_api import ApiException

TOKEN = "PERENNIAL_KUBEFLOW_TOKEN"
TOKEN_FILE = "PERENNIAL_KUBEFLOW_TOKEN_FILE"
KFP_TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # the same, as a cluster names it in its pods
COOKIES = "PERENNIAL_KUBEFLOW_COOKIES"

PATIENCE = 60.0  # seconds for which an answer that says "later" is tried again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
_TIMEOUTS = (5, 60)  # seconds to connect, and to wait for an answer
_TEMPORARY = frozenset({408, 429, 502, 503, 504})
_PAGE = 100
_LONGEST_REASON = 300
_NOT_SIGNED_IN = (
    f"Sign in again: set {TOKEN}, {TOKEN_FILE} or {COOKIES} (docs/kubernetes.md), and check that "
    "the account may use the namespace."
)


@dataclass(frozen=True)
class Connection:
    """Kubeflow Pipelines, as one account uses it.

    Attributes:
        client: The kfp.Client.
        address: Where it answers.
        namespace: Namespace of runs; empty where the installation has one user.
        patience: Seconds for which a temporary failure is tried again.
    """

    client: Any
    address: str
    namespace: str
    patience: float = PATIENCE

    def call(
        self, operation: Callable[..., Any], done: Callable[[], Any] | None = None, **arguments: Any
    ) -> Any:
        """Calls an operation of the API, again while the other side says that it cannot just now.

        Args:
            operation: A method of the generated API, such as `client.runs.run_service_get_run`.
            done: Gives what a call made whose answer was lost, or None where it made nothing; an
                operation without it may be repeated as it is.
            arguments: Its arguments by name; those that are None are left out.

        Raises:
            AccessError: The credentials are refused.
            AbsentError: What the arguments name does not exist.
            ExistsError: What was to be created exists.
            ClusterError: Nothing answers, or the call is refused.
        """
        until, pause = time.monotonic() + self.patience, _FIRST_PAUSE
        while True:
            try:
                return self._call_once(operation, arguments)
            except _TemporaryError as error:
                if time.monotonic() + pause > until:
                    raise error.lasting from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if done is not None and (result := done()) is not None:
                return result

    def list(self, operation: Callable[..., Any], field: str, **arguments: Any) -> Iterator[Any]:
        """Lists everything that an operation gives page by page.

        Args:
            operation: A method of the generated API.
            field: Where an answer has the items.
            arguments: The operation's, by name.
        """
        token = ""
        while True:
            page = self.call(operation, page_token=token, page_size=_PAGE, **arguments)
            yield from getattr(page, field) or []
            token = page.next_page_token or ""
            if not token:
                return

    def _call_once(self, operation: Any, arguments: Mapping[str, Any]) -> Any:
        import kfp_server_api
        import urllib3

        # With its headers: the generated client takes a page for people as an empty answer.
        service = operation.__self__
        whole = getattr(service, f"{operation.__name__}_with_http_info")
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            answer, _, headers = whole(**given, _request_timeout=_TIMEOUTS)
        except kfp_server_api.ApiException as error:
            raise self._refusal(error) from None
        except urllib3.exceptions.HTTPError as error:
            raise self._silence(error) from None
        if "json" not in headers.get("content-type", ""):
            raise AccessError(
                f"Kubeflow Pipelines at {self.address}",
                "must answer with JSON",
                "a page for people, such as one to sign in",
                f"Correct kubeflow.endpoint, or sign in: set {TOKEN}, {TOKEN_FILE} or {COOKIES}.",
            )
        return answer

    def _refusal(self, error: ApiException) -> Exception:
        where, reason = f"Kubeflow Pipelines at {self.address}", _reason(error)
        if error.status in (401, 403):
            return AccessError(where, "must accept the credentials", reason, _NOT_SIGNED_IN)
        if error.status == 404:
            return AbsentError(
                where,
                "must hold what is asked for",
                reason,
                "Check its name, kubeflow.endpoint and kubeflow.namespace.",
            )
        if error.status == 409:
            return ExistsError(
                where,
                "must not hold it yet",
                reason,
                "Run the command again; where it comes again, choose another name.",
            )
        if error.status in _TEMPORARY:
            lasting = ClusterError(
                where,
                "must be at work",
                reason,
                "Run the command again; where it comes again, ask whoever runs the cluster.",
            )
            return _TemporaryError(lasting)
        return ClusterError(
            where,
            "must accept the call",
            reason,
            "Correct what it names; kubeflow.endpoint must be of Kubeflow Pipelines 2.17 or newer.",
        )

    def _silence(self, error: Exception) -> Exception:
        import urllib3

        cause = getattr(error, "reason", None) or error
        unreachable = ClusterError(
            f"Kubeflow Pipelines at {self.address}",
            "must answer",
            _one_line(getattr(cause.__cause__, "strerror", None) or str(cause)),
            "Check kubeflow.endpoint (PERENNIAL_KUBEFLOW_ENDPOINT) and the connection to it.",
        )
        # Nothing listens there: told at once, as a wrong address is far more likely than a restart.
        connecting = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.SSLError)
        return unreachable if isinstance(cause, connecting) else _TemporaryError(unreachable)


class _TemporaryError(Exception):
    """A failure that may be over in a moment; `lasting` is what a person sees where it is not."""

    def __init__(self, lasting: PerennialError) -> None:
        self.lasting = lasting
        super().__init__(str(lasting))


def connect(
    project: Project, environment: Mapping[str, str] | None = None, patience: float = PATIENCE
) -> Connection:
    """Connects to the Kubeflow Pipelines of a project's settings; calls nothing yet.

    The credentials are those of the environment; without any, the ones that kfp.Client finds: a
    service account inside a cluster, kubectl's, or Google's Identity-Aware Proxy by
    KF_PIPELINES_IAP_OAUTH2_CLIENT_ID.

    Raises:
        ClusterError: There is no endpoint.
        AccessError: The file of the token cannot be read.
        ProjectError: There is no file of certificates where the settings name one.
    """
    settings = project.settings.kubeflow
    environment = os.environ if environment is None else environment
    authority = project.folder / settings.ca_file if settings.ca_file else None
    if authority and not authority.is_file():
        remedy = "Correct the path; it starts in the project folder."
        raise ProjectError("kubeflow.ca_file", "must be a file", authority, remedy)
    client = _make_client(
        host=settings.endpoint,
        existing_token=environment.get(TOKEN),
        credentials=_token_file(environment.get(TOKEN_FILE) or environment.get(KFP_TOKEN_FILE)),
        cookies=environment.get(COOKIES),
        ssl_ca_cert=str(authority) if authority else None,
    )
    api = client.runs.run_service_get_run.__self__.api_client
    address = api.configuration.host
    if address == type(api.configuration)().host:  # what the library starts from
        raise ClusterError(
            "kubeflow.endpoint",
            "must be the URL of Kubeflow Pipelines",
            "none, and neither a cluster around this process nor settings of kubectl",
            "Set it in project.yaml, or PERENNIAL_KUBEFLOW_ENDPOINT.",
        )
    namespace = settings.namespace or client.get_user_namespace() or ""
    return Connection(client, address, namespace, patience)


def _make_client(**arguments: Any) -> Any:
    """Makes a kfp.Client that prints nothing, and that does not wait where nothing answers."""
    import kfp

    class QuietClient(kfp.Client):  # type: ignore[misc]  # kfp has no types
        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            """Asks nothing: kfp.Client would ask five times when it is made, 5 s apart."""
            from kfp_server_api import V2beta1GetHealthzResponse

            return V2beta1GetHealthzResponse(multi_user=False)

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return QuietClient(**arguments)


def _token_file(path: str | None) -> Any:
    """Gives credentials that read a file for each call, as a cluster renews it."""
    if not path:
        return None
    from kfp.client import ServiceAccountTokenVolumeCredentials

    try:
        with open(path, encoding="utf-8"):
            pass
    except OSError as error:
        remedy = "Name a file that this account can read."
        raise AccessError(TOKEN_FILE, "must be a file with a token", error, remedy) from None
    return ServiceAccountTokenVolumeCredentials(path)


def _reason(error: ApiException) -> str:
    """Gives the status of an answer, and what it says in its body; its headers hold secrets."""
    try:
        body = json.loads(error.body or "")
        message = body.get("message") or body.get("error_message") or body.get("error") or ""
    except (ValueError, AttributeError):
        message = ""
    status = f"{error.status} {error.reason}" if error.status else error.reason
    return _one_line(f"{status}: {message}" if message else str(status))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"
