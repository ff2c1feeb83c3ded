"""The API server of tests: real HTTPS on loopback, with a service account and failures to order.

Its paths and objects are those of the custom resource definitions; beside them it knows the pods of
jobs and their logs.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.certificates import make_certificate
from tests.kubernetes.crd import Refusal, load_definition
from tests.kubernetes.trainer import Node, Trainer

NAMESPACE = "team"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_LOG = re.compile(re.escape(_PODS) + "/([^/]+)/log")
Object = dict[str, Any]


class Server:
    """An API server in a thread of this process.

    Attributes:
        jobs: The TrainJobs, by name.
        trainer: What makes pods of them.
        account: Folder of a service account, as it is mounted in a pod.
        calls: Method and path of what was performed, in order.
        failures: Statuses that the next calls are answered with.
    """

    def __init__(self, folder: Path, runtime: Object, node: Node) -> None:
        """Starts it, with one TrainingRuntime."""
        self.lock = threading.RLock()
        self.jobs: dict[str, Object] = {}
        self.calls: list[tuple[str, str]] = []
        self.failures: list[int] = []
        self.definition = load_definition("trainjobs")
        load_definition("trainingruntimes").check(runtime)
        self.trainer = Trainer({runtime["metadata"]["name"]: runtime}, node, self.lock)
        self.path = self.definition.path.format(namespace=NAMESPACE)
        self.account, self.token = folder, secrets.token_hex(8)
        certificate = make_certificate(folder / "server.pem")
        (folder / "ca.crt").write_bytes(certificate.read_bytes())
        (folder / "token").write_text(self.token)
        (folder / "namespace").write_text(NAMESPACE)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What a pod finds it by."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    def stop(self) -> None:
        """Stops it, and all pods."""
        self._http.shutdown()
        self._http.server_close()
        for name in list(self.jobs):
            self.trainer.remove_pods(name)

    def perform(
        self, method: str, path: str, query: dict[str, str], body: bytes, kind: str
    ) -> Object:
        """Performs a call; gives the answer."""
        if path == _PODS and method == "GET":
            label, _, name = query["labelSelector"].partition("=")
            assert label == "jobset.sigs.k8s.io/jobset-name"
            return {"items": [pod.described() for pod in self.trainer.pods_of(name)]}
        if path == self.path and method == "POST":
            return self._create(json.loads(body))
        name = path.removeprefix(f"{self.path}/")
        if not path.startswith(f"{self.path}/") or "/" in name:
            raise Refusal(404, "the server could not find the requested resource")
        if name not in self.jobs:
            raise Refusal(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        if method == "PATCH":
            self._merge(self.jobs[name], json.loads(body), kind)
        elif method == "DELETE":
            self._delete(name, json.loads(body))
            return {"kind": "Status", "status": "Success"}
        elif method != "GET":
            raise Refusal(405, f"the server does not allow {method}")
        return self.jobs[name]

    def _create(self, job: Object) -> Object:
        self.definition.check(job)
        name = job["metadata"]["name"]
        if name in self.jobs:
            raise Refusal(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        job["metadata"] |= {"namespace": NAMESPACE, "uid": secrets.token_hex(8)}
        job["metadata"]["resourceVersion"] = secrets.token_hex(4)
        self.jobs[name] = job  # first: who sees a pod finds its job
        try:
            self.trainer.make_pods(job)
        except Refusal:
            del self.jobs[name]
            raise
        return job

    def _merge(self, job: Object, change: Object, kind: str) -> None:
        if kind != "application/merge-patch+json" or set(change) != {"metadata"}:
            raise Refusal(415, "only metadata may be changed")
        assert set(change["metadata"]) == {"annotations"}
        job["metadata"].setdefault("annotations", {}).update(change["metadata"]["annotations"])
        job["metadata"]["resourceVersion"] = secrets.token_hex(4)

    def _delete(self, name: str, options: Object) -> None:
        if unknown := set(options) - {"propagationPolicy", "preconditions"}:
            raise Refusal(400, f"unknown fields {unknown}")
        metadata = self.jobs[name]["metadata"]
        for field, value in options["preconditions"].items():
            if metadata[field] != value:
                raise Refusal(409, f"the {field} in the precondition does not match")
        self.trainer.remove_pods(name)
        del self.jobs[name]


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, text = self.path.partition("?")
            query = {name: values[0] for name, values in parse_qs(text).items()}
            try:
                with server.lock:
                    if self.headers.get("Authorization") != f"Bearer {server.token}":
                        raise Refusal(401, "Unauthorized")
                    if server.failures:
                        raise Refusal(server.failures.pop(0), "to order")
                    server.calls.append((self.command, path))
                    log = _LOG.fullmatch(path)
                    kind = self.headers.get("Content-Type", "")
                    made = None if log else server.perform(self.command, path, query, body, kind)
                if log:
                    self._stream(log[1], query)
                else:
                    self._send(200, made)
            except Refusal as refusal:
                status = {"kind": "Status", "message": refusal.message, "code": refusal.status}
                self._send(refusal.status, status)

        def _stream(self, name: str, query: dict[str, str]) -> None:
            assert query.items() >= {"container": "node", "timestamps": "true"}.items()
            pods = [pod for pod in server.trainer.pods if pod.name == name]
            if not pods or pods[0].process is None:
                raise Refusal(404 if not pods else 400, f"pod {name} has no log")
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            sent = 0
            while True:
                ended = pods[0].code is not None
                for line in pods[0].lines[sent:]:
                    self.wfile.write(f"{line}\n".encode())
                    sent += 1
                if ended:
                    break
                time.sleep(0.05)
            self.close_connection = True

        def _send(self, status: int, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    return Handler
