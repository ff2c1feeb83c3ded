"""Runs a compiled pipeline on this machine with `kfp.local`.

`kfp.local` orchestrates: it resolves inputs, evaluates conditions, loops, caches and retries. Two of its functions are
replaced while a pipeline runs: the one that starts a task's process, so that a step is forked from a process
that has imported everything (docs/adr/0002), and the one that executes a task, so that a person sees it.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import logging
import multiprocessing
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from perennial.runner.quiet import libraries_log_to
from perennial.runner.task import TaskFailure, parse_command, read_failure, run_task

# These import nothing heavy. Until the warm process is ready they start on their own: "nothing new" must not wait for
# TensorFlow.
LIGHT_STEPS = ("select_spans", "conclude_run")
How = Literal["done", "cached", "failed"]


class Observer(Protocol):
    """Hears of every task as it starts and ends; called from several threads."""

    def started(self, step: str) -> None:
        """A task of this step began."""

    def finished(self, step: str, how: How, seconds: float) -> None:
        """A task of this step ended."""

    def imported(self, seconds: float) -> None:
        """The tasks that had begun waited this long for the libraries to be imported."""


@dataclass
class LocalRun:
    """One execution of a compiled pipeline.

    `failures` holds the message of each task that failed, in the order they ended.
    """

    pipeline: Path
    artifacts: Path
    cache: Path
    folder: Path
    log: Path
    observer: Observer
    failures: list[TaskFailure] = field(default_factory=list)
    _counter: int = 0
    _warm: bool = False
    _lock: Any = field(default_factory=threading.Lock)
    _importing: Any = field(default_factory=threading.Lock)

    def execute(self, arguments: dict[str, Any]) -> bool:
        """Runs the pipeline to its end; tells whether every task succeeded."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _warm_up(self.log)
        with self.log.open("a", encoding="utf-8") as log, _quiet(log), self._instead_of_kfp():
            return self._run(arguments)

    def _run(self, arguments: dict[str, Any]) -> bool:
        from kfp import components, local

        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(self.artifacts),
            workspace_root=str(self.folder / "workspace"),
            raise_on_error=True,
            enable_caching=True,
            cache_root=str(self.cache),
        )
        pipeline: Callable[..., Any] = components.load_component_from_file(str(self.pipeline))
        try:
            pipeline(**arguments)
        except RuntimeError as error:
            logging.error("%s", error)
            if not self.failures:
                self.failures.append(TaskFailure(f"the pipeline failed: {error}", 1))
            return False
        return True

    @contextlib.contextmanager
    def _instead_of_kfp(self) -> Iterator[None]:
        from kfp.local import subprocess_task_handler
        from kfp.local.orchestrator import task_executor

        with (
            _replaced(subprocess_task_handler, "run_local_subprocess", lambda _: self._start_process),
            _replaced(task_executor, "execute_single_task", self._observed),
        ):
            yield

    def _observed(self, execute: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
        """Wraps kfp.local's function that executes one task: cached, or by `_start_process`."""
        from kfp.local.status import Status

        def observed(**task: Any) -> tuple[Any, Any]:
            step = (
                str(task["task_spec"].component_ref.name).removeprefix("comp-").replace("-", "_").rstrip("_0123456789")
            )
            started, ran = time.monotonic(), threading.current_thread()
            ran.perennial_ran = False  # type: ignore[attr-defined]
            self.observer.started(step)
            outputs, status = execute(**task)
            done: How = "done" if ran.perennial_ran else "cached"  # type: ignore[attr-defined]
            how = done if status == Status.SUCCESS else "failed"
            self.observer.finished(step, how, time.monotonic() - started)
            return outputs, status

        return observed

    def _start_process(self, full_command: Sequence[str], env_vars: dict[str, str] | None = None) -> int:
        """Runs one task in a process of its own; gives its exit code. In place of kfp.local's subprocess."""
        threading.current_thread().perennial_ran = True  # type: ignore[attr-defined]
        task = parse_command(full_command)
        with self._lock:
            self._counter += 1
            failure = self.folder / f"failure-{self._counter}.json"
        forked = self._warm or task.function not in LIGHT_STEPS
        if forked:
            self._wait_for_imports()
        context: Any = multiprocessing.get_context("forkserver" if forked else "spawn")
        arguments = (task, dict(env_vars or {}), self.log, failure)
        process = context.Process(target=run_task, args=arguments, name=task.function)
        process.start()
        process.join()
        if process.exitcode != 0:
            told = read_failure(failure)
            ended = f"{task.function} was ended by signal {-(process.exitcode or 0)}"
            self.failures.append(told or TaskFailure(ended, 1, task.function))
        return process.exitcode or 0

    def _wait_for_imports(self) -> None:
        """Waits, once in a run, until the process that steps are forked from has imported everything."""
        with self._importing:
            if self._warm:
                return
            began = time.monotonic()
            first = multiprocessing.get_context("forkserver").Process(target=_nothing)
            first.start()
            first.join()
            self._warm = True
            self.observer.imported(time.monotonic() - began)


def _nothing() -> None:
    """What the first process that is forked does."""


def _warm_up(log: Path) -> None:
    """Starts importing everything heavy in the process that steps are forked from; does not wait for it."""
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload(["perennial.runner.warm_imports"])
    # It keeps the standard error that this process has now.
    with libraries_log_to(log):
        forkserver.ensure_running()


@contextlib.contextmanager
def _replaced(module: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, make(original))
    try:
        yield
    finally:
        setattr(module, name, original)


@contextlib.contextmanager
def _quiet(log: io.TextIOBase) -> Iterator[None]:
    """Sends what kfp.local prints, logs and warns to the log."""
    printing = builtins.print
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            builtins.print = printing  # kfp.local leaves its own behind when tasks ran in threads
