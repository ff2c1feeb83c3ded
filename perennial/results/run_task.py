"""Surrounds a task of a run by the run's lease, and by the record of how the task failed.

It is the same on one machine and on a cluster, which has nothing else around a task.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from perennial.errors import FailedBeforeError, LeaseLostError, LedgerError
from perennial.ledger.events import Ledger
from perennial.ledger.failures import describe_failure, final_failure, record_failure
from perennial.ledger.task_lease import TaskLease, TaskPlace
from perennial.project import Project
from perennial.results.task_log import TaskLog


class RunTask:
    """A task of a run, while it works: to be used in a `with` statement.

    What it prints is kept in the root.

    It holds the run's lease, and is stopped where it loses that. It records in the ledger by which
    message it failed. A task that failed for good is not tried again in earnest: a cluster starts a
    further attempt of whatever failed, and that one only repeats the message.

    Args:
        project: The project.
        run: Name of the run.
        step: Name of the step.
        part: Of a task in a loop: the name of its span or instance.
        place: Of the task in its run.

    Attributes:
        run: Name of the run.
        lease: The lease, as this task holds it.
    """

    def __init__(self, project: Project, run: str, step: str, part: str, place: TaskPlace) -> None:
        self.run = run
        self._project, self._step, self._part, self._place = project, step, part, place
        self._surroundings = ExitStack()
        self._fence: int | None = None

    def __enter__(self) -> Self:
        """Joins the run.

        Raises:
            RunInProgressError: Another run holds the lease.
            LeaseLostError: Another run has taken it over.
            FailedBeforeError: An earlier attempt failed in a way that this one would repeat.
            DeadlineError: The run has taken longer than it may.
        """
        with ExitStack() as stack:
            self._ledger = Ledger(self._project.ledger_url)
            stack.callback(self._ledger.close)
            stack.push(self._record)
            stack.enter_context(TaskLog(self._project, self.run, self._step, self._part))
            if failure := final_failure(self._ledger, self.run, (self._step, self._part)):
                raise FailedBeforeError(failure.message, failure.exit_code)
            self.lease = TaskLease(self._ledger, self._project.settings, self.run, self._place)
            self._fence = self.lease.fence
            stack.enter_context(self.lease)
            self._surroundings = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the task; one that was stopped ends by the reason why."""
        self._surroundings.__exit__(kind, error, trace)

    def _record(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Records by which message the task failed; one that was interrupted has not failed.

        Nor has one that never joined the run.
        """
        if self._fence is None:
            return
        if isinstance(error, Exception) and not isinstance(error, LeaseLostError):
            failure = describe_failure(self._step, error, self._part)
            with suppress(LedgerError):  # where it cannot be reached, the run's end says so
                record_failure(self._ledger, self.run, failure, self._fence)
