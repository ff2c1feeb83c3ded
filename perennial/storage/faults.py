"""Faults of stores on servers: which of them can pass, and how long they are waited for."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState

R = TypeVar("R")
Fault = Literal[
    "absent",  # nothing listens at the address, or nobody knows it
    "silent",  # no answer within the time that a slow server may take
    "broken",  # the server answered that it cannot, and not why: HTTP 500
    "cut",  # the rest: a lost or cut connection, a busy server, bytes that were damaged
]

# The one deadline: so long after the first fault, with nothing that succeeded since, a store is
# given up. A server that starts again takes its time.
PATIENCE = 60.0  # seconds
# A write that is refused for so long without a reason (S3 answers 500 where it is full) is not
# refused by a server that starts again.
PATIENCE_BROKEN = 30.0
# Nothing has answered this process yet: most likely the address is wrong.
PATIENCE_ABSENT = 10.0
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between attempts, which double
# One attempt with a large file may take longer than all of that.
_ATTEMPTS = 3

# What another attempt does not mend.
_FINAL_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError)
_FINAL_NUMBERS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL}
)
# S3's answers for what was damaged on its way there; its driver gives them the number of an invalid
# argument. Source: Amazon S3 API Reference, Error responses.
_DAMAGED_ON_THE_WAY = frozenset(
    {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentChecksumMismatch"}
    | {"XAmzContentSHA256Mismatch"}
)
# Answers of a store that is full, or whose quota is used up. 507 is WebDAV's number, RFC 4918,
# which MinIO uses; the names are Ceph's and MinIO's.
_FULL_STATUS = 507
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
# Of the statuses from 400 to 499, those that a later attempt need not meet again: a timeout, a
# conflict with another writer, too early, too many requests.
_PASSING_STATUS = frozenset({408, 409, 425, 429})
_BROKEN_STATUS = 500
# What drivers raise, by its name, as they need not be installed: where there is no account, ...
_NO_ACCOUNT = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
# ... where nothing listens, and where nothing is answered.
_ABSENT = ("EndpointConnectionError", "ClientConnectorError", "ConnectionRefusedError", "gaierror")
_SILENT = ("ReadTimeoutError", "ConnectTimeoutError", "FSTimeoutError", "TimeoutError")


class Patience:
    """Calls a store again after faults that can pass, until the store is to be given up.

    All calls of a store share one, so that they wait for it together, and once: where it was given
    up, each further call is tried once, until one succeeds.

    Attributes:
        answered: The store has answered; or it has answered another process of the same run, so
            that one that is absent starts again.
    """

    def __init__(self) -> None:
        self.answered = False
        self._failing_since: float | None = None
        self._broken_since: float | None = None
        self._given_up = False

    def call(self, call: Callable[[], R], writes: bool = False) -> R:
        """Calls, and calls again after a fault that can pass.

        Args:
            call: The call.
            writes: It writes: a full store lets the others succeed.

        Raises:
            Exception: What the call raised, when it cannot pass or was waited for long enough.
        """
        from tenacity import Retrying, retry_if_exception
        from tenacity import wait_random_exponential as wait

        retrying = Retrying(
            stop=self._is_over,
            wait=wait(_FIRST_WAIT, _LONGEST_WAIT),
            retry=retry_if_exception(is_passing),
            reraise=True,
        )
        try:
            result = retrying(call)
        except OSError as error:
            if not is_passing(error):  # an answer, too
                self._note_answer(writes)
            raise
        self._note_answer(writes)
        return result

    def _note_answer(self, writes: bool) -> None:
        self.answered = True
        self._failing_since = None
        if writes or self._broken_since is None:
            self._broken_since = None
            self._given_up = False

    def _is_over(self, state: RetryCallState) -> bool:
        """Tells whether the store is to be given up after another attempt that failed."""
        error = state.outcome.exception() if state.outcome is not None else None
        assert error is not None and state.outcome_timestamp is not None
        fault, now = fault_of(error), state.outcome_timestamp
        began = state.start_time if state.attempt_number == 1 else now
        self.answered = self.answered or fault in ("broken", "cut")
        if self._failing_since is None:
            self._failing_since = began
        failing = now - self._failing_since
        if fault == "broken":
            if self._broken_since is None:
                self._broken_since = began
            over = failing >= PATIENCE or now - self._broken_since >= PATIENCE_BROKEN
        elif fault == "absent" and not self.answered:
            over = failing >= PATIENCE_ABSENT
        else:
            over = failing >= PATIENCE
        enough = state.attempt_number >= _ATTEMPTS or fault in ("absent", "silent")
        self._given_up = self._given_up or (over and enough)
        return self._given_up


def is_passing(error: BaseException) -> bool:
    """Tells whether another attempt may succeed: not where something is missing, full or denied."""
    if isinstance(error, _FINAL_ERRORS) or not isinstance(error, Exception):
        return False
    code, status = _answer_of(error)
    if code in _DAMAGED_ON_THE_WAY:
        return True
    if code in _FULL or status == _FULL_STATUS:
        return False
    if status is not None and 400 <= status < 500 and status not in _PASSING_STATUS:
        return False
    if isinstance(error, OSError):
        return error.errno not in _FINAL_NUMBERS
    if type(error).__name__ in _NO_ACCOUNT:
        return False
    return not isinstance(error, ImportError | ValueError | TypeError | AttributeError)


def fault_of(error: BaseException) -> Fault:
    """Tells of which kind a fault is that can pass."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & set(_ABSENT):
        return "absent"
    if names & set(_SILENT):
        return "silent"
    return "broken" if _answer_of(error)[1] == _BROKEN_STATUS else "cut"


def _answer_of(error: BaseException) -> tuple[str | None, int | None]:
    """Gives the code and the HTTP status of the answer that a driver made an error of.

    S3's driver keeps the answer with the error's cause, that of Google Cloud Storage its status.
    """
    response = getattr(error.__cause__, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return response.get("Error", {}).get("Code"), status
    status = getattr(error, "code", None)
    return None, int(status) if isinstance(status, int | str) and str(status).isdecimal() else None
