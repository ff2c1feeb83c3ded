"""The scripts that workflows call, in a clone of a small repository, against real HTTP servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from perennial.ledger.events import Ledger
from perennial.project import load_project
from tests.infra.github_server import GitHub
from tests.kubeflow.contract import ABSENT, FILE
from tests.kubeflow.server import Server
from tests.perennial.folders import make_project
from tests.perennial.records import run_ended, run_started

CI = Path(__file__).parents[2] / "infra" / "ci"
WORKFLOWS = sorted((CI / "workflows").glob("*.yml"))
PROJECT = "projects/digits"


@pytest.fixture
def github():
    server = GitHub()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of a bare repository with one project."""
    folder = tmp_path_factory.mktemp("ci")
    make_project(folder / "work" / PROJECT, kubeflow={"project": "/projects/digits"})
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder / "work")]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "A project"]):
        subprocess.run([*git, *command], check=True)
    for source, target in (("work", "bare.git"), ("bare.git", "clone")):
        bare = ["--bare"] if target == "bare.git" else []
        subprocess.run(["git", "clone", "-q", *bare, source, target], cwd=folder, check=True)
    return folder / "clone"


def call(command, folder, **environment):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": programs, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def call_github(github, folder, *arguments, **environment):
    command = [sys.executable, str(CI / "github.py"), *arguments]
    return call(command, folder, **github.environment | environment)


def test_a_comparison_is_one_comment_however_often_it_is_posted(github, tmp_path):
    github.comments += [
        {"id": number + 1, "html_url": "", "body": "of a person"} for number in range(120)
    ]
    file = tmp_path / "comparison.md"
    for text in ("first", "second", "third" + "x" * 70_000):
        file.write_text(text)
        done = call_github(github, tmp_path, "comment", "7", str(file))
        assert (done.returncode, done.stdout) == (0, "/comments/121\n"), done.stderr
    assert len(github.comments) == 121
    assert "\nthird" in github.comments[-1]["body"] and len(github.comments[-1]["body"]) <= 65536
    refused = call_github(github, tmp_path, "comment", "7", str(file), GITHUB_TOKEN="other")
    assert refused.returncode == 1 and "Check the job's `permissions`" in refused.stderr


def test_what_was_approved_is_the_newest_deployment_that_succeeded(github, tmp_path):
    none = call_github(github, tmp_path, "approved", "production")
    assert none.returncode == 1 and "must have a deployment that succeeded" in none.stderr
    github.deployments = [
        ("c3", "waiting"),
        ("c2", "failure"),
        ("c1", "success"),
        ("c0", "inactive"),
    ]
    assert call_github(github, tmp_path, "approved", "production").stdout == "c1\n"


@pytest.mark.skipif(not FILE.is_file(), reason=ABSENT)
@pytest.mark.parametrize(
    "outcome, code", [("kept_champion", 0), ("data_rejected", 3), ("failed", 1)]
)
def test_a_merge_is_submitted_from_a_clone_and_ends_as_its_run_does(
    clone, github, tmp_path, outcome, code
):
    """By the token of the job's identity alone."""
    project, server = load_project(clone / PROJECT), Server()
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    server.backend.plan = ["SUCCEEDED"]
    server.credentials = {"Bearer token for kubeflow"}
    server.backend.ended = lambda run: Ledger(ledger).append(
        run_started(run), run_ended(run, outcome)
    )
    try:
        done = call(
            ["sh", str(CI / "ci.sh"), "submit"],
            clone,
            **github.environment,
            PERENNIAL_CI_KUBEFLOW_AUDIENCE="kubeflow",
            PERENNIAL_KUBEFLOW_ENDPOINT=server.address,
            PERENNIAL_KUBEFLOW_IMAGE=f"registry.example/perennial@sha256:{'7' * 64}",
            PERENNIAL_LEDGER_URL=ledger,
            PERENNIAL_ROOT=str(tmp_path / "root"),
            GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
        )
    finally:
        server.stop()
    assert done.returncode == code, done.stderr
    assert (tmp_path / "summary.md").read_text() == f"- {PROJECT}: {outcome}; a reason\n"
    (run,), (version,) = server.backend.runs.values(), server.backend.versions.values()
    assert run["display_name"].startswith(f"{project.settings.name}-ci-")
    assert f"registry.example/perennial@sha256:{'7' * 64}" in str(version["pipeline_spec"])


def test_a_pipeline_that_was_not_compiled_anew_is_told_with_the_command(clone):
    command = ["sh", str(CI / "ci.sh"), "golden"]
    stale = call(command, clone)
    assert stale.returncode == 1
    written = re.search(r"run `perennial (.*)`, read", stale.stderr)
    assert written, stale.stderr
    assert call(["perennial", *written[1].split()], clone).returncode == 0
    assert call(command, clone).returncode == 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_what_its_jobs_say_and_ends(path):
    """actionlint and zizmor look at the rest, in `make check`."""
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {} and workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] and job["permissions"]["contents"] == "read"
        assert ("id-token" in job["permissions"]) == ("environment" in job)
    for line in re.findall(r"uses: .*", text):
        assert re.fullmatch(r"uses: actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
    steps = re.findall(r"ci\.sh (\w+)", text)
    assert steps and all(f"\n#   {step} " in (CI / "ci.sh").read_text() for step in steps)
