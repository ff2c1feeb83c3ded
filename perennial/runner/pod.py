"""Runs a task as a pod of a cluster would: it shares nothing with this machine but the network.

The process forked for the task is its launcher. It makes a file system in memory, a *mount
namespace* of its own that no other process sees, with what the pod's image and volumes would hold;
copies the task's input artifacts there; runs the step in it, as a child; and copies the output
artifacts out. With the processes the file system is gone.

Where mount namespaces are refused, a step has its own empty home, temporary and working folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from perennial.errors import ProjectError
from perennial.processes import die_with_parent
from perennial.runner.task import failure_written, run_task
from perennial.settings import SETTINGS_FILE
from perennial.storage.files import fixed_folder, is_url, shown_uri

if TYPE_CHECKING:
    from perennial.project import Project

Isolation = Literal["namespace", "folders", "container"]
NOTES: dict[Isolation, str] = {
    "namespace": "each step is isolated in a mount namespace: it may read the product, the project "
    "and its data, and sees nothing else of this machine",
    "folders": "mount namespaces are refused here: each step has an empty home, temporary and "
    "working folder of its own, and sees the rest of this machine",
    "container": "each step runs in a container of the image: it may read the project and its "
    "data, and sees nothing else of this machine",
}
# What an image holds beside the product, and what a container runtime adds.
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix")
_RUNTIME = ("proc", "sys", "dev")
# Files that a pod has from its secrets, where these variables name them.
_SECRETS = (
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CA_BUNDLE", "GOOGLE_APPLICATION_CREDENTIALS", "PGPASSFILE", "PGSSLROOTCERT"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
)
_RESOLVER = Path("/etc/resolv.conf")  # often a link to where the network's service writes it
_WORKING, _TEMPORARY = Path("/pod"), Path("/tmp")
_FAILURE = _WORKING.with_name("pod-failure.json")
_OWN_FOLDERS = ("home", "tmp", "work")
# Source: mount(2), unshare(2), statvfs(3).
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_MS_OF_ST = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}


class Pod(NamedTuple):
    """The surroundings of a task.

    Attributes:
        isolation: What sets it apart.
        folder: An empty folder of this task alone.
        visible: Files and folders of this machine that it may read.
        hidden: Folders that are empty for it, though they may lie in a visible one.
        volumes: Those visible that an image does not hold: secrets, the project and its data.
        image: What a container is made of.
    """

    isolation: Isolation
    folder: str
    visible: list[str]
    hidden: list[str]
    volumes: list[str]
    image: str | None = None


def check_isolated(project: Project) -> None:
    """Checks that steps which see no file of this machine reach all that lasts.

    Raises:
        ProjectError: The root, the ledger or the registry lies on this machine.
    """
    settings = project.settings
    ledger, registry = project.ledger_url, settings.registry.uri or ""
    local = {
        ("root", "PERENNIAL_ROOT", shown_uri(project.root)): _is_local(project.root),
        ("ledger.url", "PERENNIAL_LEDGER_URL", shown_uri(ledger)): ledger.startswith("sqlite"),
        ("registry.uri", "PERENNIAL_REGISTRY_URI", shown_uri(registry) or "files"): not (
            registry.startswith(("http://", "https://", "databricks"))
        ),
    }
    names = [name for name, is_local in local.items() if is_local]
    if names:
        raise ProjectError(
            f"{SETTINGS_FILE}: {', '.join(setting for setting, _, _ in names)}",
            "must name servers, as isolated steps see no file of this machine",
            ", ".join(f"{setting}: {place}" for setting, _, place in names),
            "Set them, or the environment variables "
            f"{', '.join(variable for _, variable, _ in names)}: the root to such as "
            "s3://bucket/path, the ledger to postgresql+psycopg://…, the registry to http://….",
        )


def make_pod(project: Project, isolation: Isolation, image: str | None = None) -> Pod:
    """Makes the surroundings of a task, and decides what it sees of this machine.

    From its image a pod has the system and the product, and from volumes its secrets. The project
    and its landed data are there to be read; its state folder is not.
    """
    data = project.settings.data
    landed = (data.spans, data.unlabelled, data.serving_log)
    product = Path(__file__).resolve().parents[2]
    held = [
        *(Path("/", name) for name in (*_SYSTEM, *_RUNTIME)),
        _RESOLVER.resolve(),
        *(product, Path(sys.prefix), Path(sys.base_prefix)),
        *(Path(entry) for entry in sys.path if os.path.isabs(entry)),
    ]
    volumes = [
        *(Path(os.environ[name]) for name in _SECRETS if os.environ.get(name)),
        project.folder,
        *(fixed_folder(project.folder, pattern) for pattern in landed if pattern),
    ]
    if data.table is not None and data.table.url.startswith("sqlite:///"):
        volumes.append(Path(data.table.url.removeprefix("sqlite:///")).parent)
    hidden = [Path.home(), _TEMPORARY, Path(tempfile.gettempdir()), project.state]
    project.scratch.mkdir(parents=True, exist_ok=True)
    return Pod(
        isolation,
        tempfile.mkdtemp(prefix="pod-", dir=project.scratch),
        _names([*held, *volumes]),
        [str(place.absolute()) for place in dict.fromkeys(hidden)],
        _names(volumes),
        image,
    )


def _names(places: Iterable[Path | None]) -> list[str]:
    """Gives each place that is there once."""
    return [str(place.absolute()) for place in dict.fromkeys(places) if place and place.exists()]


def launch_task(source: str, function: str, executor_input: str, failure: str, pod: Any) -> None:
    """Runs a task in a pod, as `run_task` does: the first arguments are that one's.

    `pod` holds the values of a `Pod`.
    """
    made = Pod(*pod)
    if made.isolation == "folders":
        with failure_written(function, Path(failure)):
            _enter_folders(Path(made.folder))
        run_task(source, function, executor_input, failure)
        return
    root, files = Path(made.folder), json.loads(executor_input)
    with failure_written(function, Path(failure)):
        _enter_namespace()
        _mount_files(root, made)
        for path in input_artifacts(files):
            copy(path, _within(root, path))
    step = os.fork()
    if step:
        with failure_written(function, Path(failure)):
            code = os.waitstatus_to_exitcode(os.waitpid(step, 0)[1])
            if code == 0:
                for path in outputs(files):
                    copy(_within(root, path), path)
            copy(_within(root, _FAILURE), Path(failure))
        end_like(code)
    die_with_parent()
    os.chroot(root)
    os.chdir(_WORKING)
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]  # folders of this machine
    os.environ.pop("TMPDIR", None)
    run_task(source, function, executor_input, str(_FAILURE))


def remove_folder(pod: Pod) -> None:
    """Removes a task's folder when it has ended; a mount would have ended with its processes."""
    if pod.isolation == "folders":
        shutil.rmtree(pod.folder, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.rmdir(pod.folder)


def try_namespace() -> int:
    """Gives 0 where this process may have a file system of its own, else 1."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            if (child := os.fork()) == 0:
                try:
                    _enter_namespace()
                    _mount("tmpfs", Path(folder), "tmpfs")
                    Path(folder, "usr").mkdir()
                    _show(Path("/usr"), Path(folder, "usr"))
                    os.chroot(folder)
                except BaseException:
                    os._exit(1)
                os._exit(0)
            return int(os.waitpid(child, 0)[1] != 0)
    except OSError:
        return 1


def input_artifacts(executor_input: Mapping[str, Any]) -> Iterator[Path]:
    """Lists the files and folders that Kubeflow's launcher downloads before a task."""
    yield from _artifacts(executor_input.get("inputs", {}))


def outputs(executor_input: Mapping[str, Any]) -> Iterator[Path]:
    """Lists the files and folders that Kubeflow's launcher reads after a task."""
    made = executor_input.get("outputs", {})
    yield from _artifacts(made)
    files = [*made.get("parameters", {}).values(), made]
    yield from (Path(file["outputFile"]) for file in files if file.get("outputFile"))


def _artifacts(of: Mapping[str, Any]) -> Iterator[Path]:
    for artifacts in of.get("artifacts", {}).values():
        for artifact in artifacts.get("artifacts", []):
            yield Path(artifact["uri"])


def _is_local(place: str) -> bool:
    return not is_url(place) or place.partition(":")[0] in ("file", "local", "memory")


# --- the launcher ---------------------------------------------------------------------------------


def end_like(code: int) -> NoReturn:
    """Ends this process as its child ended: with its exit code, or by the same signal."""
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def copy(source: Path, target: Path) -> None:
    """Copies a file or a folder; nothing where there is none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.exists():
        shutil.copyfile(source, target)


def _within(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _enter_folders(folder: Path) -> None:
    """Gives this process a home, a temporary and a working folder of its own."""
    home, temporary, working = (folder / name for name in _OWN_FOLDERS)
    for own in (home, temporary, working):
        own.mkdir(parents=True)
    os.environ.update(HOME=str(home), TMPDIR=str(temporary))
    tempfile.tempdir = None
    os.chdir(working)


# --- the file system ------------------------------------------------------------------------------


def _mount_files(root: Path, pod: Pod) -> None:
    """Fills a folder with what a pod sees: the outermost first, as one may lie in another."""
    _mount("tmpfs", root, "tmpfs")
    root.chmod(0o755)
    hidden, visible = map(Path, pod.hidden), map(Path, pod.visible)
    for path in _outermost_first((_WORKING, *hidden), visible):
        target = _within(root, path)
        if str(path) not in pod.visible:
            _make_empty(target)
        elif not _is_shown(path, target):
            _show(path, target)
    shared = root / "dev" / "shm"
    if shared.is_dir():
        _mount("tmpfs", shared, "tmpfs")
    with contextlib.suppress(OSError):  # it is the project's folder, to be read
        _within(root, _TEMPORARY).chmod(0o1777)


def _outermost_first(hidden: Iterable[Path], visible: Iterable[Path]) -> list[Path]:
    return sorted(dict.fromkeys((*hidden, *visible)), key=lambda path: len(path.parts))


def _make_empty(target: Path) -> None:
    """Makes an empty folder, which hides what a visible folder around it has in its place."""
    if target.is_dir():
        _mount("tmpfs", target, "tmpfs")
    elif os.access(_nearest(target), os.W_OK):
        target.mkdir(parents=True)


def _nearest(path: Path) -> Path:
    return path if path.exists() else _nearest(path.parent)


def _is_shown(path: Path, target: Path) -> bool:
    return target.exists() and os.path.samestat(path.stat(), target.stat())


def _show(path: Path, target: Path) -> None:
    """Shows a file or a folder of this machine, to be read."""
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(str(path), target, flags=_MS_BIND | _MS_REC)
    if path.name not in _RUNTIME:
        flags = os.statvfs(target).f_flag
        # In a user namespace the flags that were there must stay.
        kept = sum(mount for stat, mount in _MS_OF_ST.items() if flags & stat)
        _mount("none", target, flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def _enter_namespace() -> None:
    """Gives this process mounts of its own: as root, or else as one who is root in there only.

    Raises:
        OSError: The system refuses.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNS)
    except PermissionError:
        _unshare(_CLONE_NEWNS | _CLONE_NEWUSER)
        for file, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            Path("/proc/self", file).write_text(text, encoding="ascii")
    die_with_parent()  # which another namespace of users may have undone
    _mount("none", Path("/"), flags=_MS_REC | _MS_PRIVATE)


def _unshare(flags: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(source: str, target: Path, kind: str | None = None, flags: int = 0) -> None:
    values = (source.encode(), os.fsencode(target), kind.encode() if kind else None)
    if ctypes.CDLL(None, use_errno=True).mount(*values, ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
