"""What podman is asked for a task; tests/infra/run_image.py runs the loop so."""

from __future__ import annotations

import pytest

from perennial.errors import ProjectError
from perennial.runner.container import check_image, container_command
from perennial.runner.pod import make_pod
from tests.perennial.folders import make_project


def test_a_container_sees_the_project_and_gets_variables_by_name_only(tmp_path):
    project = make_project(tmp_path / "project")
    pod = make_pod(project, "container", "registry.example/perennial:1")
    environment = {
        "PERENNIAL_LEDGER_URL": "postgresql://u:secret@host/ledger",
        "MY_SETTING": "1",
        "PATH": "/usr/bin",
        "PYTHONPATH": "/somewhere",
        "BASH_FUNC_x%%": "() { :; }",
    }
    command = container_command(pod, {"/a": "/artifacts"}, environment)
    assert not any("secret" in part for part in command)
    named = [command[index + 1] for index, part in enumerate(command) if part == "--env"]
    assert named == ["MY_SETTING", "PERENNIAL_LEDGER_URL"]
    volumes = [command[index + 1] for index, part in enumerate(command) if part == "--volume"]
    assert f"{project.folder}:{project.folder}:ro" in volumes and "/a:/artifacts:rw" in volumes
    assert not any(volume.startswith(("/usr", "/etc:", "/bin")) for volume in volumes)
    limits = {"--read-only", "--cap-drop", "no-new-privileges", "--read-only-tmpfs=false"}
    assert limits <= set(command)


def test_a_machine_without_podman_says_so_before_the_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProjectError, match=r"--image registry\.example/perennial:1.*podman"):
        check_image("registry.example/perennial:1")
