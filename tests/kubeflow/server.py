"""The server of tests: real HTTP on loopback, with failures to order."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.kubeflow.backend import Backend
from tests.kubeflow.contract import Operation, Refusal, load_contract


@dataclass
class Failure:
    """A failure to order.

    Attributes:
        operation: Of which call; empty: of every call.
        status: What is answered; 0: the connection is closed without an answer.
        times: How often.
        after: Whether the call is performed before, so that only its answer is lost.
    """

    operation: str
    status: int
    times: int
    after: bool = False


class Server:
    """Kubeflow Pipelines on a port of loopback, in a thread of this process.

    Attributes:
        backend: Its state.
        calls: Ids of the calls that were performed, in order.
        credentials: Values of the headers `authorization` and `cookie`, one of which is asked for;
            none: no credentials are.
        sign_in: Whether it answers with a page to sign in, as a proxy before it does.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        """Starts it; with TLS where there is a file with a certificate and its key."""
        self.contract = load_contract()
        self.backend = Backend(self.contract)
        self.calls: list[str] = []
        self.failures: list[Failure] = []
        self.credentials: set[str] = set()
        self.sign_in = False
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.address = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stops it; nothing answers at its address then."""
        self._http.shutdown()
        self._http.server_close()

    def fail(
        self, operation: str = "", status: int = 503, times: int = 1, after: bool = False
    ) -> None:
        """Orders a failure."""
        self.failures.append(Failure(operation, status, times, after))

    def take_failure(self, operation: str, after: bool) -> Failure | None:
        """Gives a failure that was ordered for a call, and counts it."""
        for failure in self.failures:
            if failure.operation in ("", operation) and failure.after == after and failure.times:
                failure.times -= 1
                return failure
        return None


class _LostAnswer(Exception):
    """The connection is closed without an answer."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if server.sign_in:
                self._send(200, "text/html", b"<html>Sign in</html>")
                return
            try:
                with server.lock:
                    answer = self._perform(body)
                self._send(200, "application/json", json.dumps(answer).encode())
            except Refusal as refusal:
                status = {"code": 2, "message": refusal.message, "details": []}
                self._send(refusal.status, "application/json", json.dumps(status).encode())
            except _LostAnswer:
                self.close_connection = True

        def _perform(self, body: bytes) -> dict[str, Any]:
            path, _, query = self.path.partition("?")
            operation, names = server.contract.find(self.command, path)
            sent = {self.headers.get("authorization"), self.headers.get("cookie")}
            if server.credentials and not server.credentials & sent:
                raise Refusal(401, "Request header error: there is no user identity header.")
            values = server.contract.read_query(operation, query)
            content = self._content(operation, body)
            self._fail(operation, after=False)
            server.calls.append(operation.id)
            answer = server.backend.perform(operation.id, names, values, content)
            server.contract.check(answer, operation.answer, "the answer")
            self._fail(operation, after=True)
            return answer

        def _content(self, operation: Operation, body: bytes) -> Any:
            if operation.located("formData"):
                return _uploaded(operation, self.headers.get("Content-Type", ""), body)
            return server.contract.read_body(operation, body)

        def _fail(self, operation: Operation, after: bool) -> None:
            failure = server.take_failure(operation.id, after)
            if failure and not failure.status:
                raise _LostAnswer
            if failure:
                raise Refusal(failure.status, "to order")

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    return Handler


def _uploaded(operation: Operation, kind: str, body: bytes) -> bytes:
    """The one file of a form."""
    form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    parts = form.get_payload() if form.is_multipart() else []
    assert isinstance(parts, list)
    names = {part.get_param("name", header="content-disposition"): part for part in parts}
    if set(names) != set(operation.located("formData")):
        raise Refusal(400, "Failed to read pipeline from file")
    (part,) = names.values()
    content = part.get_payload(decode=True)  # type: ignore[union-attr]
    assert isinstance(content, bytes)
    return content
