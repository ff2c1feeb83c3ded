"""The place of the warm process of these surroundings: its socket, its log, its lock."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import resource
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perennial.runner.warm_wire import LIMITS
from perennial.tfx_compat import prepare_process

PACKAGES = ("schemas", "perennial", "components", "pipelines", "serving")
# Variables that Python or a library reads at its start or import, too early for a child's to count.
_EARLY = ("HOME", "LANG", "LANGUAGE", "MLFLOW_CONFIGURE_LOGGING", "MLFLOW_LOGGING_LEVEL")
_EARLY_PREFIXES = (
    *(
        "TF_",
        "TF2_",
        "KERAS_",
        "TPU_",
        "XLA_",
        "CUDA_",
        "NVIDIA_",
        "NCCL_",
        "ROCM_",
        "HIP_",
        "JAX_",
    ),
    *(
        "OMP_",
        "KMP_",
        "MKL_",
        "OPENBLAS_",
        "BLIS_",
        "NUMEXPR_",
        "ONEDNN_",
        "DNNL_",
        "HDF5_",
        "ARROW_",
    ),
    *(
        "LD_",
        "MALLOC_",
        "GLIBC_",
        "LC_",
        "PYTHON",
        "GRPC_",
        "ABSL_",
        "PROTOCOL_BUFFERS_",
        "GX_",
        "MPL",
    ),
)
_LATE = ("TF_CONFIG",)  # a cluster of workers, which TensorFlow reads when a strategy is made
# The same for all processes of a user, unlike TMPDIR.
_TEMPORARY = Path("/", "tmp")
_STATUS = (
    "Uid",
    "Gid",
    "Groups",
    "CapEff",
    "CapBnd",
    "NoNewPrivs",
    "Seccomp",
)  # rights, of proc(5)


class WarmUnavailableError(Exception):
    """The warm process cannot be used; the message is for a line on the screen."""


@dataclass(frozen=True)
class Place:
    """A folder, and the names of what lies in it for one warm process.

    `surroundings` is the digest of all that a child cannot change, and `code` that of the product's
    own modules.
    """

    folder: Path
    surroundings: str
    code: str

    @property
    def key(self) -> str:
        """Tells one warm process from another."""
        return f"{self.surroundings}-{self.code}"

    @property
    def socket(self) -> Path:
        """Gives the path of the socket that it listens on."""
        return self.folder / f"{self.key}.socket"

    @property
    def log(self) -> Path:
        """Gives the path of the file for what libraries print while they are imported."""
        return self.folder / f"{self.key}.log"

    @property
    def lock(self) -> Path:
        """Gives the path of the lock that is held while a warm process is started."""
        return self.folder / "start.lock"


def find_place() -> Place:
    """Gives the place for the surroundings of this process.

    Raises:
        WarmUnavailableError: There is no folder that is this user's only.
    """
    prepare_process()
    return Place(runtime_folder(), _digest(_surroundings()), _digest(_code()))


def runtime_folder() -> Path:
    """Gives the folder for sockets of this user; makes it where it is missing.

    Raises:
        WarmUnavailableError: It belongs to another, others may enter it, or it cannot be made.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = _TEMPORARY / f"perennial-{os.geteuid()}"
    if runtime and os.access(runtime, os.W_OK):
        folder = Path(runtime, "perennial")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise WarmUnavailableError(f"{folder} cannot be used: {error.strerror}") from error
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_own or status.st_mode & 0o077:
        expected = "must be a folder of this user that nobody else may enter"
        raise WarmUnavailableError(f"{folder} {expected}")
    return folder


def _digest(parts: Iterator[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:12]


def _surroundings() -> Iterator[str]:
    """Gives all that a child cannot change.

    That is the interpreter, the installed packages, the product's folder, rights, limits, and the
    variables that are read early.
    """
    yield from (sys.executable, sys.version, sys.prefix, platform.release())
    yield from (str(_root()), str(os.nice(0)))
    installed = importlib.metadata.distributions()
    for folder in sorted({str(Path(str(package.locate_file("")))) for package in installed}):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.endswith((".dist-info", ".egg-link", ".pth")):
                yield f"{folder}/{entry.name} {entry.stat().st_mtime_ns}"
    for namespace in sorted(os.listdir("/proc/self/ns")):
        yield os.readlink(f"/proc/self/ns/{namespace}")
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    for line in status.splitlines():
        if line.split(":")[0] in _STATUS:
            yield line
    for name in LIMITS:
        yield f"{name} {resource.getrlimit(getattr(resource, name))[1]}"
    for name, value in sorted(os.environ.items()):
        if (name in _EARLY or name.startswith(_EARLY_PREFIXES)) and name not in _LATE:
            yield f"{name}={value}"


def _code() -> Iterator[str]:
    """Gives the product's own modules, each with the digest of its contents."""
    for package in PACKAGES:
        for path in sorted((_root() / package).rglob("*.py")):
            yield f"{path.relative_to(_root())} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _root() -> Path:
    return Path(__file__).resolve().parents[2]
