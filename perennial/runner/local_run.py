"""Runs a compiled pipeline on this machine with `kfp.local`.

`kfp.local` orchestrates: it resolves inputs, evaluates conditions, loops and retries. Some of its
functions are replaced while a pipeline runs: the one that starts a task's process, so that a step
is forked from the warm process, which has imported everything (docs/adr/0002); the one that
executes a task, so that a person sees it; and the one that walks through a DAG, so that tasks run
side by side (docs/adr/0019).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from components.stored_step import KEPT
from perennial.runner.capacity import tasks_at_once
from perennial.runner.container import remove_container
from perennial.runner.pod import NOTES, Isolation, Pod, remove_folder
from perennial.runner.task import TaskFailure, parse_command, read_failure
from perennial.runner.warm import (
    MINUTES,
    CallLostError,
    OwnWarmProcess,
    Running,
    WarmProcess,
    is_off,
)
from perennial.runner.warm_imports import ALL, STEP_GROUPS
from perennial.runner.warm_place import WarmUnavailableError
from perennial.runner.warm_wire import Call

# Seconds; a task that waited for less waited for its fork only, and not for imports.
_FORKED_AT_ONCE = 1.0
TaskEnd = Literal["done", "cached", "failed"]


class Observer(Protocol):
    """Is called at the start and end of every task, from several threads."""

    def started(self, step: str) -> None:
        """Hears that a task of this step began."""

    def finished(self, step: str, end: TaskEnd) -> None:
        """Hears that a task of this step ended."""

    def imported(self, step: str, seconds: float) -> None:
        """Hears how much longer a task of this step, which had begun, waited for imports."""

    def step_ended(self, step: str) -> None:
        """Hears that no more tasks of this step will come."""

    def noted(self, line: str) -> None:
        """Hears of something that a person should know."""


@dataclass
class LocalRun:
    """One execution of a compiled pipeline.

    `warm` tells whether to use the warm process that outlives the run, for `warm_minutes` after it;
    `at_once` limits how many tasks run at the same time (None: as many as the machine can take).
    `environment` are variables of every task. `killed` hears of a task that was ended before it
    could record why. `failures` holds the message of each task that failed, in the order they
    ended.
    `pod` makes the surroundings of an isolated task (None: tasks share this machine's files), and
    `isolation` is how they are set apart (None: as well as this machine allows).
    """

    pipeline: Path
    artifacts: Path
    folder: Path
    log: Path
    observer: Observer
    warm: bool = True
    warm_minutes: float = MINUTES
    at_once: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    killed: Callable[[TaskFailure], None] | None = None
    pod: Callable[[Isolation], Pod] | None = None
    isolation: Isolation | None = None
    failures: list[TaskFailure] = field(default_factory=list)
    _counter: int = 0
    _lock: Any = field(default_factory=threading.Lock)
    _process: WarmProcess | OwnWarmProcess | None = None
    _processes: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _waited_until: float = 0.0
    _running: set[Running] = field(default_factory=set)
    _interrupted: bool = False

    def execute(self, arguments: dict[str, Any]) -> bool:
        """Runs the pipeline to its end; tells whether every task succeeded."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._processes:
            self._warm_process()
            if self.pod is not None:
                self.observer.noted(NOTES[self._chosen_isolation()])
            with self.log.open("a", encoding="utf-8") as log, _quiet(log), self._kfp_replaced():
                return self._run(arguments)

    def _run(self, arguments: dict[str, Any]) -> bool:
        from kfp import local

        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(self.artifacts),
            workspace_root=str(self.folder / "workspace"),
            raise_on_error=True,
            enable_caching=False,  # results lie in the root by key, which each step looks up
        )
        try:
            _load_pipeline(self.pipeline)(**arguments)
        except RuntimeError as error:
            logging.error("%s", error)
            if not self.failures:
                self.failures.append(TaskFailure(f"the pipeline failed: {error}", 1))
            return False
        return True

    @contextlib.contextmanager
    def _kfp_replaced(self) -> Iterator[None]:
        """Replaces functions of kfp.local while the block runs."""
        from kfp.local import logging_utils, subprocess_task_handler
        from kfp.local.orchestrator import dag_orchestrator, task_executor
        from kfp.local.orchestrator import enhanced_dag_orchestrator as enhanced

        from perennial.runner.side_by_side import SideBySide

        dag = SideBySide(self.at_once or tasks_at_once(), self.observer.step_ended, self.kill)
        execute = dag.limited(self._observed(task_executor.execute_single_task))
        with contextlib.ExitStack() as replaced:
            for module, name, function in (
                (subprocess_task_handler, "run_local_subprocess", self._run_task),
                (task_executor, "execute_single_task", execute),
                (enhanced, "run_enhanced_dag", dag.run_dag),
                (dag_orchestrator, "run_dag", dag.run_dag),
                # These change the logging and `print` of the whole process, which threads share.
                (logging_utils, "local_logger_context", contextlib.nullcontext),
                (logging_utils, "indented_print", contextlib.nullcontext),
            ):
                replaced.enter_context(_replaced(module, name, function))
            yield

    def _observed(self, execute: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
        """Wraps kfp.local's function that executes one task, so that a person sees it."""
        from kfp.local.status import Status

        from perennial.runner.side_by_side import step_of

        def observed(**task: Any) -> tuple[Any, Any]:
            step = step_of(task["task_spec"])
            self.observer.started(step)
            outputs, status = execute(**task)
            end: TaskEnd = "failed"
            if status == Status.SUCCESS:
                end = "cached" if _is_kept(outputs) else "done"
            self.observer.finished(step, end)
            return outputs, status

        return observed

    def _run_task(self, full_command: Sequence[str], env_vars: dict[str, str] | None = None) -> int:
        """Runs one task in a process of its own, in place of kfp.local; gives its exit code."""
        task = parse_command(full_command)
        with self._lock:
            self._counter += 1
            failure = self.folder / f"failure-{self._counter}.json"
        runner: str = "perennial.runner.task:run_task"
        arguments: list[Any] = [*task, str(failure)]
        needs: Sequence[str] = STEP_GROUPS.get(task.function, ALL)
        pod = None
        if self.pod is not None:
            pod = self.pod(self._chosen_isolation())
            runner, arguments = "perennial.runner.pod:launch_task", [*arguments, pod]
            if pod.isolation == "container":
                runner, needs = "perennial.runner.container:launch_task", ()
        environment = {**(env_vars or {}), **self.environment}
        call = Call.here(runner, arguments, needs, environment)
        try:
            code = self._wait(self._start(call, task.function))
            ended = f"{task.function} was ended by signal {-code}"
        except CallLostError as error:
            code, ended = -1, f"{task.function} was ended: {error}"
        finally:
            if pod is not None:
                remove = remove_container if pod.isolation == "container" else remove_folder
                remove(pod)
        if code != 0:
            described = read_failure(failure)
            if described is None:
                described = TaskFailure(ended, 1, task.function)
                if self.killed is not None and not self._interrupted:
                    self.killed(described)
            self.failures.append(described)
        return code

    def _chosen_isolation(self) -> Isolation:
        """Gives how tasks are isolated; finds out once how they can be."""
        if self.isolation is None:
            call = Call.here("perennial.runner.pod:try_namespace", [], needs=())
            refused = self._wait(self._start(call, "isolation")) != 0
            self.isolation = "folders" if refused else "namespace"
        return self.isolation

    def _start(self, call: Call, step: str) -> Running:
        """Starts a task; where the warm process has ended, by another one."""
        with self.log.open("ab") as log, open(os.devnull, "rb") as nothing:
            files = (nothing.fileno(), log.fileno(), log.fileno())
            for _ in range(2):
                process = self._warm_process()
                try:
                    running = process.start(call, files)
                    break
                except WarmUnavailableError as error:
                    self._replace(process, error)
            else:
                running = self._own_process().start(call, files)
        self._report_wait(step, running.waited)
        return running

    def _wait(self, running: Running) -> int:
        """Waits for a task, which `kill` may end; gives its exit code."""
        with self._lock:
            self._running.add(running)
        if self._interrupted:
            running.kill()
        try:
            return running.wait()
        finally:
            with self._lock:
                self._running.remove(running)

    def kill(self) -> None:
        """Kills the tasks that run, and those that begin after all."""
        self._interrupted = True
        with self._lock:
            for running in self._running:
                running.kill()

    def _warm_process(self) -> WarmProcess | OwnWarmProcess:
        """Gives the shared warm process, or this run's own where that is off or cannot be used."""
        with self._lock:
            if self._process is None and is_off(self.warm):
                self._process = self._own_process()
            if self._process is None:
                try:
                    self._process = self._processes.enter_context(WarmProcess(self.warm_minutes))
                except WarmUnavailableError as error:
                    note = f"the warm process cannot be used ({error}); this run has its own"
                    self.observer.noted(note)
                    self._process = self._own_process()
            return self._process

    def _own_process(self) -> OwnWarmProcess:
        return self._processes.enter_context(OwnWarmProcess(self.log))

    def _replace(self, process: WarmProcess | OwnWarmProcess, error: WarmUnavailableError) -> None:
        """Lets the next task look for another warm process, unless another thread has done so."""
        with self._lock:
            if self._process is process:
                note = f"the warm process ended ({error}); the run goes on with another"
                self.observer.noted(note)
                self._process = None

    def _report_wait(self, step: str, seconds: float) -> None:
        """Reports how long tasks waited for imports; what several waited at once counts once."""
        with self._lock:
            now = time.monotonic()
            new = now - max(now - seconds, self._waited_until)
            if seconds > _FORKED_AT_ONCE and new > 0:
                self._waited_until = now
                self.observer.imported(step, new)


def _load_pipeline(file: Path) -> Callable[..., Any]:
    """Loads a compiled pipeline as kfp does, with a faster parser."""
    from kfp.dsl.structures import ComponentSpec
    from kfp.dsl.yaml_component import YamlComponent

    from pipelines.compile import read_documents

    text = file.read_text(encoding="utf-8")
    pipeline: Callable[..., Any] = YamlComponent(
        ComponentSpec.from_ir_dicts(*read_documents(text)), text
    )
    return pipeline


def _is_kept(outputs: Mapping[str, Any]) -> bool:
    """Tells whether a task found its result in the root, and made nothing."""
    return any(getattr(output, "metadata", {}).get(KEPT) for output in outputs.values())


@contextlib.contextmanager
def _replaced(module: Any, name: str, replacement: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextlib.contextmanager
def _quiet(log: io.TextIOBase) -> Iterator[None]:
    """Sends what kfp.local prints, logs and warns to the log."""
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s - %(levelname)s - %(message)s"))
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    with (
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.INFO)
        logger.handlers[:] = [handler]
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.handlers[:] = handlers
