"""What a task sees that runs as a pod would, and how it gets its artifacts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perennial.errors import ProjectError
from perennial.runner.pod import Isolation, check_isolated, make_pod, remove_folder
from tests.perennial.folders import make_project

# As Kubeflow has it: the wrapper's source, whose arguments are artifacts and values.
SOURCE = """
import json, os, signal
from pathlib import Path
from kfp.dsl import Artifact, Input, Output

def look(project: str, end: str, given: Input[Artifact], made: Output[Artifact]) -> str:
    import tempfile
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "wrong":
        raise ValueError("it is wrong")
    folder = Path(project)
    seen = {
        "given": Path(given.path).read_text(),
        "home": os.listdir(Path.home()),
        "temporary": os.listdir(tempfile.gettempdir()),
        "working": os.listdir(),
        "project": sorted(os.listdir(folder)),
        "landed": Path(folder, "data", "2026-01-01.csv").read_text(),
        "state": sorted(os.listdir(folder / ".perennial")),
        "artifacts": sorted(os.listdir(Path(given.path).parents[1])),
    }
    for place in (Path.home(), Path(tempfile.gettempdir()), Path(), folder / ".perennial"):
        (place / "scratch").write_text("left by another step")
    try:
        (folder / "written").write_text("")
    except OSError as error:
        seen["refused"] = error.strerror
    Path(made.path).write_text("made")
    return json.dumps(seen)
"""
LAUNCH = """
import json, sys
from perennial.runner.pod import launch_task, try_namespace
*task, pod = json.loads(sys.argv[1])
if try_namespace() != (0 if pod[0] == "namespace" else 1):
    sys.exit(70)
launch_task(*task, pod)
"""
# Who may make mount namespaces, and how: root; root of a user namespace only; nobody.
RIGHTS = {
    "root": ("namespace", []),
    "user namespace": ("namespace", ["setpriv", "--bounding-set=-sys_admin", "--"]),
    "none": (
        "folders",
        [
            *("unshare", "--user", "--map-root-user", "sh", "-c"),
            *('echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$@"', "sh"),
        ],
    ),
}


@pytest.fixture
def project(tmp_path):
    """A project with a landed day and a state folder, and a home beside it."""
    made = make_project(tmp_path / "project")
    (made.folder / "data").mkdir(exist_ok=True)
    (made.folder / "data" / "2026-01-01.csv").write_text("landed")
    made.state.mkdir()
    (made.state / "ledger.db").touch()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "credentials").touch()
    return made


def look(
    project, isolation: Isolation, command: list[str], end: str = ""
) -> tuple[int, Path, Path]:
    """Runs a task that looks around; gives its exit code, its outputs and its failure."""
    artifacts = project.state / "artifacts"
    for step in ("before", "other"):
        (artifacts / step).mkdir(parents=True, exist_ok=True)
        (artifacts / step / "given").write_text("given")
    after = artifacts / "after"
    executor_input = {
        "inputs": {
            "parameterValues": {"project": str(project.folder), "end": end},
            "artifacts": {"given": _artifact(artifacts / "before" / "given")},
        },
        "outputs": {
            "artifacts": {"made": _artifact(after / "made")},
            "parameters": {"Output": {"outputFile": str(after / "Output")}},
            "outputFile": str(after / "executor_output.json"),
        },
    }
    failure = project.state / "failure.json"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(project.folder.parent / "home"))
        pod = make_pod(project, isolation)
        request = [SOURCE, "look", json.dumps(executor_input), str(failure), pod]
        done = subprocess.run(
            [*command, sys.executable, "-c", LAUNCH, json.dumps(request)],
            capture_output=True,
            text=True,
            cwd=project.folder,
        )
    remove_folder(pod)
    assert list(project.scratch.iterdir()) == []
    assert done.returncode != 70, "another isolation than expected is possible here"
    return done.returncode, after, failure


def _artifact(path: Path) -> dict:
    return {"artifacts": [{"name": path.name, "uri": str(path), "metadata": {}}]}


@pytest.mark.parametrize("rights", RIGHTS)
def test_a_task_sees_nothing_of_another_one_s_scratch_files_nor_of_the_home(project, rights):
    isolation, command = RIGHTS[rights]
    if os.geteuid() != 0:
        pytest.skip("giving up rights needs them")
    for _ in range(2):  # the second would find what the first left
        code, after, failure = look(project, isolation, command)
        assert code == 0, failure.read_text()
        seen = json.loads(
            json.loads((after / "executor_output.json").read_text())["parameterValues"]["Output"]
        )
        assert seen["home"] == seen["working"] == [] and "scratch" not in seen["temporary"]
        assert seen["given"] == "given" and seen["landed"] == "landed"
        assert (after / "made").read_text() == "made"
        if isolation == "namespace":
            assert seen["state"] == ["artifacts"] and seen["artifacts"] == [
                "after",
                "before",
            ]  # its own
            assert "read-only" in seen["refused"].lower() and "project.yaml" in seen["project"]
        for path in ("project/scratch", "home/scratch"):
            assert not (project.folder.parent / path).exists()


def test_a_task_that_fails_or_is_killed_in_a_pod_says_so(project):
    code, after, failure = look(project, *RIGHTS["user namespace"], end="wrong")
    assert code == 1 and "it is wrong" in json.loads(failure.read_text())["message"]
    assert not (after / "made").exists()
    failure.unlink()
    code, after, failure = look(project, *RIGHTS["user namespace"], end="killed")
    assert code == -9 and not failure.exists() and not after.exists()


def test_what_lasts_must_lie_on_servers(tmp_path):
    project = make_project(tmp_path / "project", root="file:///srv/results")
    with pytest.raises(ProjectError) as raised:
        check_isolated(project)
    message = str(raised.value)
    assert "root, ledger.url, registry.uri must name servers" in message
    assert "PERENNIAL_ROOT, PERENNIAL_LEDGER_URL, PERENNIAL_REGISTRY_URI" in message
    assert "\n" not in message
    check_isolated(
        make_project(
            tmp_path / "other",
            root="s3://bucket/path",
            ledger={"url": "postgresql+psycopg://host/ledger"},
            registry={"uri": "http://host:5000"},
        )
    )
