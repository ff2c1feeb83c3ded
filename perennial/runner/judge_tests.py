"""Judges the tests between arms that run while their projects are watched, again and again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from perennial.errors import PerennialError, describe_error
from perennial.ledger.events import Ledger
from perennial.project import Project

_LOOK_SECONDS = 1.0
_LONGEST = 600.0  # seconds that one judgement may take

Tell = Callable[[Project, str, bool], None]
"""Told of a project: a line, and whether that is about trouble."""


class Watched(Protocol):
    """A project that is watched; its settings may be read again."""

    project: Project


def judge_tests(watched: Sequence[Watched], tell: Tell, stop: threading.Event) -> None:
    """Judges every running test each `watch.judge_seconds`, until `stop` is set.

    It tells what ended a test, and once what keeps it from being judged.
    """
    turns, troubles = dict.fromkeys(map(id, watched), 0.0), dict.fromkeys(map(id, watched), "")
    while not stop.wait(_LOOK_SECONDS):
        for each in watched:
            project = each.project
            if time.monotonic() < turns[id(each)]:
                continue
            turns[id(each)] = time.monotonic() + project.settings.watch.judge_seconds
            try:
                decided, trouble = _judge(project), ""
            except (PerennialError, OSError, subprocess.TimeoutExpired) as error:
                decided, trouble = None, describe_error(error)
            if decided is not None:
                tell(project, decided, False)
            if trouble and trouble != troubles[id(each)]:
                tell(project, f"the A/B test is not judged: {trouble}", True)
            troubles[id(each)] = trouble


def _judge(project: Project) -> str | None:
    """Judges the running test in a process of its own; tells what ended it, if that is so."""
    with contextlib.closing(Ledger(project.ledger_url)) as ledger:
        if ledger.running_test() is None:
            return None
    command = [sys.executable, "-m", "perennial.cli.main", "ab", "judge", str(project.folder)]
    done = subprocess.run(
        [*command, "--json"],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=_LONGEST,
    )
    lines = done.stdout.splitlines()
    if not lines:  # one message on standard error, for people
        raise OSError(" ".join(done.stderr.split()) or f"exit code {done.returncode}")
    verdict = json.loads(lines[-1])
    if not verdict.get("acted"):
        return None
    return f"test {verdict['test']}: {verdict['action']}: {'; '.join(verdict['reasons'])}"
