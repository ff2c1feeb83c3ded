"""Calls GitHub's REST API for a job, with the job's own short-lived token.

    python github.py comment NUMBER FILE    post FILE on a pull request, or update what was posted
    python github.py approved ENVIRONMENT   print the commit that was deployed there last
    python github.py token AUDIENCE FILE    write a token of the job's identity (OIDC) to FILE

It needs the standard library alone, so a job that holds a token runs nothing else. GITHUB_TOKEN,
GITHUB_REPOSITORY and GITHUB_API_URL are those that a workflow has, and so are the two variables of
a job that may ask for its identity (`id-token: write`).
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARKER = "<!-- perennial-ci -->"  # begins the one comment of a pull request
LONGEST = 65536  # characters of a comment. Source: GitHub's REST API
_CUT = "\n````\n\nThe rest is in the job's artifact."
_PAGE = 100
_TIMEOUT = 30  # seconds


class RefusedError(Exception):
    """GitHub refuses a call, or does not answer; the message is for the job's log."""


def main(command: str, *arguments: str) -> None:
    """Does what the command line asks for."""
    if command == "comment":
        number, file = arguments
        print(post_comment(int(number), Path(file).read_text(encoding="utf-8")))
    elif command == "approved":
        (environment,) = arguments
        print(find_approved(environment))
    elif command == "token":
        audience, file = arguments
        write_token(audience, Path(file))
    else:
        raise RefusedError(f"the command must be comment, approved or token. Received: {command}")


def post_comment(number: int, text: str) -> str:
    """Posts a comment on a pull request, or updates the one that was posted before.

    Returns:
        Where people read it.
    """
    body = f"{MARKER}\n{text}"
    if len(body) > LONGEST:
        body = body[: LONGEST - len(_CUT)] + _CUT
    for comment in list_pages(f"issues/{number}/comments"):
        if comment["body"].startswith(MARKER):
            return str(
                call("PATCH", f"issues/comments/{comment['id']}", {"body": body})["html_url"]
            )
    return str(call("POST", f"issues/{number}/comments", {"body": body})["html_url"])


def find_approved(environment: str) -> str:
    """Gives the commit of the newest deployment to an environment that succeeded."""
    name = urllib.parse.quote(environment, safe="")
    for deployment in list_pages(f"deployments?environment={name}"):
        statuses = call("GET", f"deployments/{deployment['id']}/statuses?per_page=1")
        if [status["state"] for status in statuses] == ["success"]:  # the newest comes first
            return str(deployment["sha"])
    raise RefusedError(
        f"environment {environment} must have a deployment that succeeded. Received: none. Let the "
        "workflow of merges come to its end once."
    )


def write_token(audience: str, file: Path) -> None:
    """Writes a token of the job's identity for one audience, readable by this account alone."""
    try:
        url = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"]
        bearer = os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    except KeyError as error:
        raise RefusedError(f"the job must have `id-token: write`. Received: no {error}") from None
    answer = _send("GET", f"{url}&audience={urllib.parse.quote(audience, safe='')}", bearer)
    temporary = file.with_name(f"{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(answer["value"])
    temporary.replace(file)


def list_pages(path: str) -> Iterator[Any]:
    """Lists everything that a path of the repository gives, page by page."""
    number, mark = 1, "&" if "?" in path else "?"
    while True:
        page = call("GET", f"{path}{mark}per_page={_PAGE}&page={number}")
        yield from page
        if len(page) < _PAGE:
            return
        number += 1


def call(method: str, path: str, body: Any = None) -> Any:
    """Calls a path of the repository; gives the answer's JSON."""
    server = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    try:
        place = f"{server}/repos/{os.environ['GITHUB_REPOSITORY']}"
        token = os.environ["GITHUB_TOKEN"]
    except KeyError as error:
        raise RefusedError(f"the job must set {error}. Received: nothing") from None
    return _send(method, f"{place}/{path}", token, body)


def _send(method: str, url: str, token: str, body: Any = None) -> Any:
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    where = f"{method} {url.partition('?')[0]}"
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}"
        remedy = "Check the job's `permissions`." if error.code in (401, 403, 404) else "Try again."
        raise RefusedError(f"{where} must be accepted. Received: {reason}. {remedy}") from None
    except (OSError, ValueError) as error:
        raise RefusedError(f"{where} must be answered. Received: {error}. Try again.") from None


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RefusedError as error:
        sys.exit(f"ci: {error}")
