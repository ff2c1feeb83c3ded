"""The errors that a person sees.

    PerennialError            exit code 1
    ├── ProjectError          exit code 2: a mistake in the project folder
    ├── DataError             exit code 3: the data is at fault
    │   └── BrokenFileError   a file is at fault as a whole
    ├── RunInProgressError    another run holds the project
    ├── LedgerError           the ledger refused a change
    │   └── BusyError         another process is changing the registry
    ├── RegistryError         the registry lacks or refuses something
    ├── IntegrityError        bytes are not the ones that were evaluated
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
import re

_LONGEST_CAUSE = 300
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

    def __init__(self, where: str, expected: str, received: object, remedy: str) -> None:
        self.where, self.expected, self.received, self.remedy = (
            where,
            expected,
            str(received),
            remedy,
        )
        super().__init__(f"{where} {expected}. Received: {received}. {remedy}")

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


class RunInProgressError(PerennialError):
    """Another run of the same project is going on."""


class LedgerError(PerennialError):
    """A change that contradicts what the ledger holds."""


class BusyError(LedgerError):
    """Another process is changing the registry."""


class RegistryError(PerennialError):
    """A version that the registry does not hold or does not accept."""


class IntegrityError(PerennialError):
    """Bytes that differ from those that were evaluated."""


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

    Its own message, that the disk is full or read-only, or its kind and the beginning of its cause.
    """
    if isinstance(error, PerennialError):
        return str(error)
    if is_full_disk(error):
        return "there is no space left on the disk. Free some, then run again."
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        place = error.filename or "the folder"
        return f"{place} must be writable. Received: a read-only file system. Work in another."
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


def is_full_disk(error: BaseException | None) -> bool:
    """Tells whether a full disk is behind an error, however many libraries wrapped it."""
    while error is not None:
        # shutil and TensorFlow pass the system's error on as text only.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
