"""What a task prints lies in the root, however the task ends, without secrets; `perennial logs` prints it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import PerennialError
from perennial.results.secret_values import find_secrets, mask_secrets
from tests.perennial.folders import make_project

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "a/secret+key",
    "PERENNIAL_KUBEFLOW_TOKEN": "token-of-mine",
    "PERENNIAL_LEDGER_URL": "postgresql+psycopg://me:hunter2@ledger/db",
    "TLS_KEY": "-----BEGIN KEY-----\nMIIabcdef\n-----END KEY-----",
    "OF_A_SECRET": "declared",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    secrets = [{"name": "places", "variables": {"some": "OF_A_SECRET"}}]
    folder = tmp_path_factory.mktemp("task-log") / "digits"
    return make_project(folder, kubeflow={"secrets": secrets})


LATE = """
fork = os.fork
def fork_late():
    child = fork()
    if child == 0:
        time.sleep(1)
    return child
os.fork = fork_late
"""
"""Has the process that keeps the log begin when the task may be gone."""


def run_task(project, part, body, before=""):
    """Runs a task in a process of its own; gives its exit code and what it printed."""
    task = f"load_project({str(project.folder)!r}), 'run-1', 'train_model', {part!r}"
    lines = [
        "import os, signal, subprocess, time",
        "from perennial.project import load_project",
        "from perennial.results.task_log import TaskLog",
        before,
        f"with TaskLog({task}):",
        textwrap.indent(body, "    "),
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, env=os.environ | SECRETS, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def logs(project, *words):
    return CliRunner().invoke(app, ["logs", str(project.folder), "run-1", *words])


def test_what_tasks_print_is_told_apart_and_passed_on(project):
    child = "print(1, flush=True); subprocess.run(['sh', '-c', 'echo of a child >&2'])"
    assert run_task(project, "instance-1", child)[0] == 0
    code, printed = run_task(project, "instance-2", "raise ValueError('it does not work')")
    assert code == 1 and "ValueError" in printed
    first, second = (logs(project, "train_model", f"instance-{number}").output for number in (1, 2))
    assert first.startswith("== train_model instance-1, begun 20")
    assert "1\nof a child\ntrain_model ended after" in first and "ValueError" not in first
    assert "ValueError: it does not work\ntrain_model failed after" in second
    assert logs(project).output == logs(project, "train_model").output == first + second
    absent = logs(project, "tune_model").exception
    assert isinstance(absent, PerennialError)
    assert "logs of train_model instance-1, train_model instance-2" in str(absent)


@pytest.mark.parametrize("before", ["", LATE], ids=["", "the keeper begins late"])
def test_the_last_words_of_a_task_that_is_killed_are_kept(project, before):
    part = f"killed-{len(before)}"
    killed = "print('the last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    code, printed = run_task(project, part, killed, before)
    assert code == -9 and "the last words" in printed
    until = time.monotonic() + 60
    while logs(project, "train_model", part).exception and time.monotonic() < until:
        time.sleep(0.1)  # the process that keeps the log notices the end
    kept = logs(project, "train_model", part).output
    assert "the last words\ntrain_model was killed, or ended without a word" in kept


def test_no_secret_is_kept(project):
    told = "".join(f"\nprint(os.environ[{name!r}])" for name in SECRETS)
    run_task(project, "secrets", f"{told.strip()}\nprint('s3://me:another@bucket')")
    kept = logs(project, "train_model", "secrets").output
    for secret in ("a/secret+key", "token-of-mine", "hunter2", "MIIabcdef", "declared", "another"):
        assert secret not in kept, secret
    assert "postgresql+psycopg://me:***@ledger/db" in kept and "false" in kept


def test_a_secret_is_masked_as_urls_spell_it(project):
    secrets = find_secrets({"A_TOKEN": "a/b+c=d"}, project.settings)
    assert mask_secrets("q=a%2Fb%2Bc%3Dd and a/b+c=d", secrets) == "q=*** and ***"
