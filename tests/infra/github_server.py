"""GitHub's REST API as far as a job calls it: comments, deployments, and tokens of the job's identity."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY, TOKEN = "team/models", "of-the-job"


class GitHub:
    """A real HTTP server on loopback that keeps comments of pull request 7."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.deployments: list[tuple[str, str]] = []  # commit and newest state, the newest first
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a job has."""
        return {
            "GITHUB_API_URL": self.address,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TOKEN": TOKEN,
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.address}/identity?job=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": TOKEN,
        }

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Gives the answer's JSON; None: there is no such path."""
        page = int(query.get("page", 1)) - 1
        size = int(query.get("per_page", 30))
        here = slice(page * size, (page + 1) * size)
        repository = f"/repos/{REPOSITORY}"
        if path == "/identity":
            return {"value": f"token for {query['audience']}"}
        if path == f"{repository}/issues/7/comments" and method == "GET":
            return self.comments[here]
        if path == f"{repository}/issues/7/comments":
            number = len(self.comments) + 1
            self.comments.append({"id": number, "html_url": f"/comments/{number}", **body})
            return self.comments[-1]
        if path.startswith(f"{repository}/issues/comments/") and method == "PATCH":
            comment = self.comments[int(path.rpartition("/")[2]) - 1]
            comment |= body
            return comment
        if path == f"{repository}/deployments" and query["environment"] == "production":
            made = [{"id": i, "sha": sha} for i, (sha, _) in enumerate(self.deployments)]
            return made[here]
        if path.startswith(f"{repository}/deployments/"):
            return [{"state": self.deployments[int(path.split("/")[-2])][1]}]
        return None


def _handler(github: GitHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or "null")
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            status, answer = 401, None
            if self.headers["Authorization"] == f"Bearer {TOKEN}":
                answer = github.answer(self.command, url.path, query, body)
                status = 404 if answer is None else 200
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _answer

    return Handler
