"""Runs a task in a container of the image that a cluster would run, by podman.

As a pod's, its root cannot be written and it has no capabilities. It has the image's files, the
project and its landed data to be read, and the task's artifacts, which are copied in before and
out after it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perennial.errors import ProjectError
from perennial.processes import die_with_parent
from perennial.runner.pod import Pod, copy, end_like, input_artifacts, outputs
from perennial.runner.task import failure_written

_ENGINE = "podman"
# The network is this machine's, as isolated steps have it; all else is what a restricted pod has.
_LIMITS = (
    *("--network", "host", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--log-driver", "none"),
)
_TEMPORARY = "/tmp"
_HANDED = "/pod"  # the task's call goes in there, and its failure comes out
# Variables of this machine, which the image sets itself or which mean nothing in there.
_MACHINE = frozenset(
    ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "HOSTNAME", "TMPDIR", "LANG")
)
_MACHINE_PREFIXES = ("LC_", "LD_", "XDG_", "PYTHON", "VIRTUAL_ENV", "CONTAINER", "DBUS_")
_SIGNALLED = 128  # podman adds a signal's number to it


def check_image(image: str) -> None:
    """Checks that podman is there, has the image, and may run it as the image's account.

    Raises:
        ProjectError: One of these is not so.
    """
    where, expected = f"--image {image}", "must be an image that podman has on this machine"
    if shutil.which(_ENGINE) is None:
        raise ProjectError(where, expected, "no podman", "Install podman.")
    if os.geteuid() != 0:
        raise ProjectError(
            where,
            "must be run by root, as the image's account is another one than yours",
            f"user {os.geteuid()}",
            "Run it as root, or use --isolated.",
        )
    if subprocess.run([_ENGINE, "image", "exists", image], check=False).returncode != 0:
        raise ProjectError(
            where, expected, "none of that name", "Build it (docs/image.md), or pull it."
        )


def launch_task(source: str, function: str, executor_input: str, failure: str, pod: Any) -> None:
    """Runs a task in a container, as `pod.launch_task` does in a mount namespace."""
    made = Pod(*pod)
    files = json.loads(executor_input)
    with failure_written(function, Path(failure)):
        inputs, results = list(input_artifacts(files)), list(outputs(files))
        root = Path(os.path.commonpath([path.parent for path in (*inputs, *results)]))
        artifacts, handed = Path(made.folder, "artifacts"), Path(made.folder, "handed")
        for path in inputs:
            copy(path, artifacts / path.relative_to(root))
        artifacts.mkdir(exist_ok=True)
        handed.mkdir()
        call = [source, function, executor_input, f"{_HANDED}/failure.json"]
        (handed / "call.json").write_text(json.dumps(call), encoding="utf-8")
        mounts = {str(artifacts): str(root), str(handed): _HANDED}
        # Folders, as runc gives a file system in memory the rights of what it hides.
        for number, hidden in enumerate(place for place in made.hidden if place != _TEMPORARY):
            empty = Path(made.folder, f"empty-{number}")
            empty.mkdir()
            mounts[str(empty)] = hidden
        _open_to_all(Path(made.folder))
        code = subprocess.run(
            [*container_command(made, mounts, os.environ), f"{_HANDED}/call.json"],
            check=False,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        ).returncode
        if code == 0:
            for path in results:
                copy(artifacts / path.relative_to(root), path)
        copy(handed / "failure.json", Path(failure))
        if code != 0 and code <= _SIGNALLED and not Path(failure).exists():
            raise ProjectError(
                f"--image {made.image}",
                "must run the step",
                f"podman's exit code {code}; its message is in the run's kubeflow.log",
                "Mend what that message names.",
            )
    end_like(_SIGNALLED - code if code > _SIGNALLED else code)


def container_command(
    pod: Pod, mounts: Mapping[str, str], environment: Mapping[str, str]
) -> list[str]:
    """Gives podman's command for a task, but for the file of its call.

    `mounts` are folders of this machine that the task may write, and their places in there. The
    values of variables do not stand in it, as other accounts may read a command.
    """
    assert pod.image is not None
    passed = sorted(
        name
        for name in environment
        if name.isidentifier() and name not in _MACHINE and not name.startswith(_MACHINE_PREFIXES)
    )
    volumes = [f"{place}:{place}:ro" for place in pod.volumes]
    volumes += [f"{place}:{target}:rw" for place, target in mounts.items()]
    return [
        *(_ENGINE, "run", "--rm", "--name", container_name(pod), *_LIMITS),
        *("--tmpfs", f"{_TEMPORARY}:rw,mode=1777"),
        *(part for volume in volumes for part in ("--volume", volume)),
        *(part for name in passed for part in ("--env", name)),
        *(pod.image, "python", "-m", "perennial.runner.task"),
    ]


def container_name(pod: Pod) -> str:
    """Gives the name of a task's container, which ends with the name of its folder."""
    return f"perennial-{Path(pod.folder).name}"


def remove_container(pod: Pod) -> None:
    """Ends and removes a task's container, which outlives a launcher that was killed."""
    command = [_ENGINE, "rm", "--force", "--ignore", "--time", "0", container_name(pod)]
    subprocess.run(command, check=False, capture_output=True)
    shutil.rmtree(pod.folder, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    """Lets the image's account read and write a task's files; the folder around them is ours."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o777)
        for name in files:
            os.chmod(os.path.join(parent, name), 0o666)
