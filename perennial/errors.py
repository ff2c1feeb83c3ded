"""The errors that a person sees.

    PerennialError            exit code 1
    ├── ProjectError          exit code 2: a mistake in the project folder
    ├── DataError             exit code 3: the data is at fault
    │   └── BrokenFileError   a file is at fault as a whole
    │       └── DelimiterError  its cells stand between other delimiters than the settings say
    ├── RunInProgressError    another run holds the project
    ├── DeadlineError         a run takes longer than it may
    ├── FailedBeforeError     an earlier attempt of a task failed for good
    ├── LedgerError           the ledger refused a change
    │   ├── BusyError         another process is changing the registry
    │   └── LeaseLostError    another run has taken over from this one
    ├── RegistryError         the registry lacks or refuses something
    ├── StoreError            the root cannot be read or written
    │   └── LostError         what was stored there is gone, or is not what it was
    ├── IntegrityError        bytes are not the ones that were evaluated
    ├── WorkersError          Beam's runner or its workers failed
    ├── ClusterError          exit code 4: the cluster does not answer, or refuses
    │   ├── UnavailableError  it does not answer for now
    │   ├── AccessError       exit code 5: it refuses the credentials
    │   ├── AbsentError       it does not hold what was named
    │   └── ExistsError       it holds that already
    ├── RunCancelledError     exit code 6: the run was cancelled
    ├── WaitTimeoutError      exit code 7: the run goes on, but is not waited for any longer
    ├── DeliveryError         a message did not reach its target
    │   └── RefusedMessageError  the target refuses it until something is corrected
    │       └── GoneTargetError  it wants no more messages
    ├── TrainingError         a model could not be trained
    └── ServingError          the server does not answer as evaluation did
        └── InputError        a request does not fit the model

Every message says where, what was expected, what was received and what to do. `NotComparedError` is
the reason why something was not compared: the run goes on, and its record holds the reason. Other
errors that no person sees, because the code that calls always catches them, stand beside what
raises them.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

_LONGEST_CAUSE = 300
_NO_SPACE = "there is no space left on the disk. Free some, then run again."
_FAILING = "check the disk and the connection to it, then run again."
# What the system's errors mean; `{place}` is the file. What is not here is told by its own words.
_SYSTEM_ERRORS = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: "this account's quota of the disk is used up. Free some space, then run again.",
    errno.EROFS: "{place} lies on a read-only file system. Make it writable, or work in another "
    "folder.",
    errno.EACCES: "this account may not use {place}. Correct its rights, then run again.",
    errno.EPERM: "this account may not change {place}. Correct its rights, then run again.",
    errno.ENOENT: "{place} does not exist. Check its name, and whether something removes it.",
    errno.ENAMETOOLONG: "the name {place} is too long. Shorten it.",
    errno.EMFILE: "too many files are open at once. Raise the limit (`ulimit -n`), then run again.",
    errno.ENFILE: "too many files are open on this machine. Close some, then run again.",
    errno.EIO: f"{{place}} cannot be read or written: {_FAILING}",
    errno.ESTALE: f"{{place}} is gone from the server that it lies on: {_FAILING}",
    errno.ENOMEM: "there is no memory left. Close other programs, or give the run more.",
    errno.ECONNREFUSED: "nothing answers at the address. Check it, and whether the server runs.",
    errno.ECONNRESET: "the other side closed the connection. Check whether the server runs.",
    errno.ETIMEDOUT: "the other side does not answer. Check the address and the connection.",
    errno.EHOSTUNREACH: "the other side cannot be reached. Check the address and the connection.",
    errno.EADDRINUSE: "another program uses the port. Name another, or end that program.",
}
# The same of SQLite, by its primary result code. Source: https://www.sqlite.org/rescode.html
_SQLITE_ERRORS = {
    5: "the SQLite file is locked by another process. Wait until that is done, then run again.",
    8: "the SQLite file, or the folder that it lies in, may not be written. Correct their rights.",
    10: "the SQLite file cannot be read or written: free some space, or check the disk.",
    11: "the SQLite file is damaged. Restore it from a backup.",
    13: _NO_SPACE,
    14: "the SQLite file cannot be opened. Check that its folder exists, and their rights.",
    26: "the file is not a database of SQLite. Check its name, or restore it from a backup.",
}
_SQLITE_FULL = 13
# What is missing, there already or forbidden stays so.
_FINAL_SYSTEM_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
# Where libraries keep their errors of what may be there again later: a server, memory, a device.
_PASSING_ERRORS = {
    "sqlalchemy.exc": ("OperationalError", "InterfaceError"),
    "tensorflow.python.framework.errors_impl": (
        "AbortedError",
        "DeadlineExceededError",
        "ResourceExhaustedError",
        "UnavailableError",
    ),
}
_STYLE = re.compile(r"\x1b\[[0-9;]*m")  # bold and colours of a terminal


class PerennialError(Exception):
    """Base of all errors with a message for a person.

    Args:
        where: File, setting or step at fault.
        expected: What should be so, as a clause that follows `where` ("must be a positive
            integer").
        received: What was found instead.
        remedy: What to do, as a sentence.
    """

    exit_code = 1
    # Another attempt of the same may succeed: the machine or a server was at fault.
    passing = False

    def __init__(self, where: str, expected: str, received: object, remedy: str) -> None:
        self.where, self.expected, self.received, self.remedy = (
            where,
            expected,
            str(received),
            remedy,
        )
        received_once = self.received.removesuffix(".")  # of a whole sentence
        super().__init__(f"{where} {expected}. Received: {received_once}. {remedy}")

    def __reduce__(self) -> tuple[type[PerennialError], tuple[str, str, str, str]]:
        return type(self), (self.where, self.expected, self.received, self.remedy)


class ProjectError(PerennialError):
    """A mistake in the project folder: settings, module, schema or expectations."""

    exit_code = 2


class DataError(PerennialError):
    """Data that cannot be used."""

    exit_code = 3


class BrokenFileError(DataError):
    """A file whose contents are at fault as a whole, such as one that was cut off."""

    def __init__(
        self, where: str, expected: str, received: object, remedy: str = "Land it again."
    ) -> None:
        super().__init__(where, expected, received, remedy)


class DelimiterError(BrokenFileError):
    """A CSV file whose cells stand between other delimiters than the settings say."""


class RunInProgressError(PerennialError):
    """Another run of the same project is going on."""

    passing = True


class DeadlineError(PerennialError):
    """A run that takes longer than it may."""

    passing = True


class FailedBeforeError(PerennialError):
    """The failure of an earlier attempt of a task, which another attempt would only repeat.

    Args:
        message: The message of that attempt.
        exit_code: Its exit code.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        Exception.__init__(self, message)
        self.exit_code = exit_code

    @override
    def __reduce__(self) -> tuple[type[FailedBeforeError], tuple[str, int]]:  # type: ignore[override]
        return type(self), (str(self), self.exit_code)


class LedgerError(PerennialError):
    """A change that contradicts what the ledger holds."""

    passing = True


class BusyError(LedgerError):
    """Another process is changing the registry."""


class LeaseLostError(LedgerError):
    """Another run has taken the project over; this one may record nothing more."""

    passing = False


class RegistryError(PerennialError):
    """A version that the registry does not hold or does not accept."""

    passing = True


class StoreError(PerennialError):
    """The root, where results are kept, cannot be read or written."""

    passing = True


class LostError(StoreError):
    """An object of the root that is gone, or is not what was stored.

    The step that made it has ended: only another run makes it anew.
    """

    passing = False


class IntegrityError(PerennialError):
    """Bytes that differ from those that were evaluated."""


class WorkersError(PerennialError):
    """A pipeline that failed on Beam's runner, which may have lost a worker."""

    passing = True


class ClusterError(PerennialError):
    """Kubeflow Pipelines or Kubernetes does not answer, or refuses what it was asked for."""

    exit_code = 4


class UnavailableError(ClusterError):
    """A cluster that does not answer for now."""

    passing = True


class AccessError(ClusterError):
    """The cluster refuses the credentials, or there are none."""

    exit_code = 5


class AbsentError(ClusterError):
    """Something that the cluster does not hold."""


class ExistsError(ClusterError):
    """Something that the cluster holds already."""


class RunCancelledError(PerennialError):
    """A run on a cluster that was cancelled before it had an outcome."""

    exit_code = 6


class WaitTimeoutError(PerennialError):
    """A run on a cluster that is not waited for any longer."""

    exit_code = 7


class DeliveryError(PerennialError):
    """A message that did not reach its target; it is sent again later."""

    passing = True


class RefusedMessageError(DeliveryError):
    """A message that its target refuses for a reason that has to be corrected first."""

    passing = False


class GoneTargetError(RefusedMessageError):
    """A target that wants no more messages."""


class TrainingError(PerennialError):
    """A model that could not be trained."""


class ServingError(PerennialError):
    """A server that does not start, or answers other than evaluation did."""


class InputError(ServingError):
    """A request that the model cannot answer; the server gives it back as HTTP 400."""


class NotComparedError(Exception):
    """Something cannot be compared or estimated.

    The text is the reason, as a clause for a person.
    """


def describe_error(error: BaseException) -> str:
    """Describes an error in one line.

    Its own message, what the system or SQLite mean by it, or its kind and the beginning of its
    cause.
    """
    if isinstance(error, PerennialError):
        return str(error)
    if (meaning := describe_system_error(error)) is not None:
        return meaning
    cause = _first_cause(str(error))
    shown = cause if len(cause) <= _LONGEST_CAUSE else f"{cause[:_LONGEST_CAUSE]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _first_cause(message: str) -> str:
    """Finds the line of a message that tells most.

    The first one; of TensorFlow's, what it says of the node that failed; of Keras's, the next one
    too where the first says only in which layer it happened.
    """
    lines = [
        line for line in (_STYLE.sub("", line).strip() for line in message.splitlines()) if line
    ]
    node = next((number for number, line in enumerate(lines) if line.startswith("[[{{")), 0)
    if node:
        return lines[node - 1]
    keras = bool(lines) and lines[0].startswith("Exception encountered when calling")
    return " ".join(lines[: 2 if keras else 1])


def log_place() -> str:
    """Names the log of this process and its next line.

    `perennial run` sends the errors of a step to a file; on a cluster they are the pod's log.
    """
    sys.stderr.flush()
    try:
        path = Path(os.readlink("/proc/self/fd/2"))
        if path.is_file():
            with path.open("rb") as lines:
                return f"{path}, line {sum(1 for _ in lines) + 1}"
    except OSError:  # no file, or no system that tells
        pass
    return "the log of this step, see `perennial logs`"


def describe_system_error(error: BaseException) -> str | None:
    """Describes an error of the system or of SQLite and what to do, however it was wrapped.

    Gives None for any other, and for one of the system that a library caught and took for
    something else.
    """
    if is_full_disk(error):
        return _NO_SPACE
    if isinstance(error, MemoryError):
        return _SYSTEM_ERRORS[errno.ENOMEM]
    if isinstance(error, OSError) and error.errno is not None and not _is_of_ssl(error):
        place = str(error.filename) if error.filename is not None else "a file"
        known = _SYSTEM_ERRORS.get(error.errno)
        return known.format(place=place) if known else None
    for cause in _causes(error):
        if (code := _sqlite_code(cause)) in _SQLITE_ERRORS:
            return _SQLITE_ERRORS[code]
    return None


def _is_of_ssl(error: OSError) -> bool:
    """Tells whether an error's number is one of OpenSSL, which the system's do not explain."""
    return any(kind.__module__ == "ssl" for kind in type(error).__mro__)


def is_full_disk(error: BaseException | None) -> bool:
    """Tells whether a full disk is behind an error, however many libraries wrapped it."""
    # shutil and TensorFlow pass the system's error on as text only.
    return any(
        getattr(cause, "errno", None) == errno.ENOSPC
        or _sqlite_code(cause) == _SQLITE_FULL
        or "No space left on device" in str(cause)
        for cause in _causes(error)
    )


def may_pass(error: BaseException) -> bool:
    """Tells whether another attempt of a task may succeed after an error.

    It may where the machine, the network or a server was at fault, or memory was short; not where
    the data, the project or the code were, which would fail again in the same way.
    """
    if isinstance(error, PerennialError):
        return error.passing
    return any(
        isinstance(cause, (MemoryError, OSError, *_passing_types()))
        and not isinstance(cause, _FINAL_SYSTEM_ERRORS)
        for cause in _causes(error)
    )


def _passing_types() -> list[type[BaseException]]:
    """Lists errors of servers and devices, of the libraries that are imported already."""
    return [
        kind
        for module, names in _PASSING_ERRORS.items()
        for name in names
        if (kind := getattr(sys.modules.get(module), name, None)) is not None
    ]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and those that it came of; SQLAlchemy keeps a driver's as `orig`."""
    while error is not None:
        yield error
        original = getattr(error, "orig", None)
        wrapped = original if isinstance(original, BaseException) else None
        error = wrapped or error.__cause__ or error.__context__


def _sqlite_code(error: BaseException) -> int:
    """Gives the primary result code of an error of SQLite, 0 for any other."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF if isinstance(code, int) else 0
