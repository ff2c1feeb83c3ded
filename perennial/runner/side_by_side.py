"""Runs the tasks of a pipeline side by side where they do not depend on each other.

`kfp.local` starts the next task of a DAG when the one before has ended, and at most two iterations
of a loop at once. `SideBySide.run_dag` takes the place of its loop: it starts each task as soon as
all that it depends on is done. What a task is, how its inputs are resolved, conditions, loops'
items and retries stay kfp.local's.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp.local import graph_utils, io
from kfp.local.orchestrator import enhanced_dag_orchestrator as kfp_dag
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from kfp.local.status import Status
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec

Components = Mapping[str, "ComponentSpec"]
Execute = Callable[..., tuple[Any, Status]]
Job = Callable[[], bool]
_STOP_SECONDS = 2.0  # for threads to see that what they wait for was killed
_COMPLETED = PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED


class Scope(io.IOStore):  # type: ignore[misc]
    """One DAG's values (kfp.local's part) and whether it has failed, chained to the DAG around.

    Args:
        parent: The scope around it.
        in_loop: Whether this is an iteration of a loop, or inside one.
        regardless: Whether tasks in it run even when the scopes around it have failed.
    """

    def __init__(
        self,
        parent: Scope | None = None,
        in_loop: bool = False,
        regardless: bool = False,
    ) -> None:
        super().__init__(parent=parent)
        self.around = None if regardless else parent
        self.in_loop: bool = in_loop or bool(parent and parent.in_loop)
        self._failed = False

    @property
    def failed(self) -> bool:
        """Tells whether no further task of it is to start."""
        return self._failed or bool(self.around and self.around.failed)

    def fail(self) -> None:
        """Keeps further tasks from starting, here and in the scopes around, which fail with it."""
        self._failed = True
        if self.around is not None:
            self.around.fail()


class _Ended(NamedTuple):
    """A job that ended, or was not begun."""

    name: str
    succeeded: bool
    error: BaseException | None = None


class SideBySide:
    """One execution of a pipeline.

    When a task fails, no further task is begun, but for exit tasks and those that ignore failures;
    tasks that run beside it are finished, so that the next run finds what they made.

    Args:
        at_once: How many tasks run at the same time.
        step_ended: Is called with each step of which no more tasks will come.
        kill: Ends the tasks that run, when a person interrupts.
    """

    def __init__(
        self,
        at_once: int,
        step_ended: Callable[[str], None],
        kill: Callable[[], None],
    ) -> None:
        self._at_once = at_once
        self._slots = threading.Semaphore(at_once)
        self._step_ended = step_ended
        self._kill = kill
        self._to_come: Counter[str] = Counter()
        self._lock = threading.Lock()

    # --- in place of kfp.local's functions, with their arguments --------------------------------

    def run_dag(
        self,
        *,
        dag_component_spec: ComponentSpec,
        dag_arguments: Mapping[str, Any],
        parent_io_store: Scope | None = None,
        **common: Any,
    ) -> tuple[dict[str, Any], Status]:
        """Runs a DAG; gives its outputs. In place of `run_enhanced_dag` and `run_dag`."""
        scope = Scope(parent_io_store)
        inputs = OrchestratorUtils.join_user_inputs_and_defaults(
            dag_arguments,
            dag_component_spec.input_definitions,
        )
        for name, value in inputs.items():
            scope.put_parent_input(name, value)
        if parent_io_store is None:
            self._to_come = _steps_in(dag_component_spec, common["components"])
        tasks = dict(dag_component_spec.dag.tasks)
        last = {name for name, task in tasks.items() if _is_exit_task(task)}
        body = {name: task for name, task in tasks.items() if name not in last}
        # Exit tasks come after all others, and one after the other.
        succeeded = self._run_tasks(body, scope, common)
        for name in (name for name in tasks if name in last):
            succeeded &= self._run_tasks({name: tasks[name]}, scope, common)
        if not succeeded:
            return {}, Status.FAILURE
        outputs = OrchestratorUtils.get_dag_outputs(dag_component_spec.dag.outputs, scope)
        return outputs, Status.SUCCESS

    def execute_parallel_tasks(
        self,
        tasks: Sequence[tuple[str, PipelineTaskSpec]],
        io_store: Scope,
        parallelism_limit: int = 0,
        **common: Any,
    ) -> tuple[dict[str, Any], Status]:
        """Runs the iterations of a loop; gives their outputs. In place of `ParallelExecutor`'s."""
        outputs: dict[str, Any] = {}

        def run(name: str, spec: PipelineTaskSpec) -> bool:
            scope = Scope(io_store, in_loop=True)
            result, status = _execute(name, spec, scope, common)
            if status != Status.SUCCESS:
                common["fail_stack"].append(name)
                return False
            outputs[name] = result
            for key, value in result.items():
                io_store.put_task_output(name, key, value)
            return True

        # More iterations than tasks at once would only wait for each other.
        limit = min(parallelism_limit or self._at_once, self._at_once)
        jobs = {name: partial(run, name, spec) for name, spec in tasks}
        succeeded = self._run_all(jobs, {}, io_store, limit)
        return (outputs, Status.SUCCESS) if succeeded else ({}, Status.FAILURE)

    def limited(self, execute: Execute) -> Execute:
        """Wraps the function that executes one task: it waits until few enough others run."""

        def wait_and_execute(**task: Any) -> tuple[Any, Status]:
            with self._slots:
                if task["io_store"].failed:  # while it waited
                    return {}, Status.FAILURE
                return execute(**task)

        return wait_and_execute

    # --- the loop -------------------------------------------------------------------------------

    def _run_tasks(
        self,
        tasks: Mapping[str, PipelineTaskSpec],
        scope: Scope,
        common: Mapping[str, Any],
    ) -> bool:
        """Runs tasks of one DAG, each after those it depends on; tells whether all succeeded."""
        ordered = graph_utils.topological_sort_tasks(tasks)[::-1]
        jobs = {name: partial(self._run_task, name, tasks[name], scope, common) for name in ordered}
        after = {name: set(tasks[name].dependent_tasks) & tasks.keys() for name in ordered}
        regardless = {name for name in ordered if _ignores_failures(tasks[name])}
        return self._run_all(jobs, after, scope, len(jobs), regardless)

    def _run_task(
        self,
        name: str,
        task: PipelineTaskSpec,
        scope: Scope,
        common: Mapping[str, Any],
    ) -> bool:
        """Runs one task, loop or sub-DAG, and keeps its outputs; tells whether it succeeded.

        A task whose condition does not hold is skipped, and counts as succeeded.
        """
        components: Components = common["components"]
        component = components[task.component_ref.name]
        condition = task.trigger_policy.condition
        if condition and not kfp_dag.ConditionEvaluator.evaluate_condition(condition, scope):
            logging.info("Skipping conditional task %s (condition evaluated to False)", name)
            self._settle(_steps_of(task, components), scope)
            return True
        if task.WhichOneof("iterator") and kfp_dag._has_valid_iterator(task):
            arguments = {**common, "io_store": scope, "parallel_executor": self}
            failed = kfp_dag._run_parallel_for_task(task_name=name, task_spec=task, **arguments)
            self._settle(_steps_of(task, components), scope)
            if failed:
                scope.put_task_status(name, "FAILED")  # kfp.local records success only
            return not failed
        inner = Scope(scope, regardless=True) if _ignores_failures(task) else scope
        outputs, status = _execute(name, task, inner, common)
        succeeded = bool(status == Status.SUCCESS)
        scope.put_task_status(name, "SUCCEEDED" if succeeded else "FAILED")
        if succeeded:
            for key, value in outputs.items():
                scope.put_task_output(name, key, value)
        else:
            common["fail_stack"].append(name)
        if component.WhichOneof("implementation") != "dag":  # else its tasks were counted already
            self._settle(_steps_of(task, components), scope)
        return succeeded

    def _run_all(
        self,
        jobs: Mapping[str, Job],
        after: Mapping[str, set[str]],
        scope: Scope,
        limit: int,
        regardless: Collection[str] = (),
    ) -> bool:
        """Runs each job in a thread once those that it is `after` have ended, `limit` at once.

        Once the scope has failed, only those named in `regardless` are begun.

        Raises:
            BaseException: A job raised it; those beside it have been finished.
        """
        ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        running: dict[str, threading.Thread] = {}
        left = list(jobs)
        over: set[str] = set()
        results: list[_Ended] = []
        while left or running:
            for name in left[:]:
                if after.get(name, set()) <= over and len(running) < limit:
                    left.remove(name)
                    if scope.failed and name not in regardless:
                        scope.put_task_status(name, "FAILED")
                        over.add(name)
                        results.append(_Ended(name, succeeded=False))
                    else:
                        running[name] = _start(name, jobs[name], ended)
            if running:
                results.append(self._wait(ended, running, scope))
                over.add(results[-1].name)
                del running[results[-1].name]
                if not results[-1].succeeded:
                    scope.fail()
        for error in (result.error for result in results if result.error):
            raise error
        return all(result.succeeded for result in results)

    def _wait(
        self,
        ended: queue.SimpleQueue[_Ended],
        running: Mapping[str, threading.Thread],
        scope: Scope,
    ) -> _Ended:
        """Waits for the next job that ends; when a person interrupts, ends all that run.

        Only the main thread is interrupted.
        """
        try:
            return ended.get()
        except KeyboardInterrupt:
            scope.fail()
            self._kill()
            until = time.monotonic() + _STOP_SECONDS
            for thread in running.values():
                thread.join(max(0.0, until - time.monotonic()))
            raise

    def _settle(self, steps: Counter[str], scope: Scope) -> None:
        """Counts tasks that have ended or will not come; those of loops when the outermost ends."""
        if scope.in_loop:
            return
        with self._lock:
            self._to_come -= steps
            over = [step for step in steps if not self._to_come[step]]
        for step in over:
            self._step_ended(step)


def step_of(task: PipelineTaskSpec) -> str:
    """Gives the step that a task runs, named like its folder."""
    name = str(task.component_ref.name).removeprefix("comp-").replace("-", "_")
    return name.rstrip("_0123456789")  # Kubeflow numbers all but the first of a step's tasks


def _execute(
    name: str, task: PipelineTaskSpec, scope: Scope, common: Mapping[str, Any]
) -> tuple[dict[str, Any], Status]:
    result: tuple[dict[str, Any], Status] = kfp_dag.execute_task(
        task_name=name,
        task_spec=task,
        io_store=scope,
        **common,
    )
    return result


def _start(name: str, job: Job, ended: queue.SimpleQueue[_Ended]) -> threading.Thread:
    def run() -> None:
        try:
            ended.put(_Ended(name, job()))
        except BaseException as error:
            ended.put(_Ended(name, succeeded=False, error=error))

    # Of a daemon thread a second Ctrl-C does not wait for the end.
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _steps_in(component: ComponentSpec, components: Components) -> Counter[str]:
    """Counts the tasks of each step in a DAG and its sub-DAGs; a loop's iterations are one."""
    tasks = component.dag.tasks
    ordered = (tasks[name] for name in graph_utils.topological_sort_tasks(tasks)[::-1])
    return sum((_steps_of(task, components) for task in ordered), Counter[str]())


def _steps_of(task: PipelineTaskSpec, components: Components) -> Counter[str]:
    component = components[task.component_ref.name]
    if component.WhichOneof("implementation") == "dag":
        return _steps_in(component, components)
    return Counter([step_of(task)])


def _ignores_failures(task: PipelineTaskSpec) -> bool:
    return bool(task.trigger_policy.strategy == _COMPLETED)


def _is_exit_task(task: PipelineTaskSpec) -> bool:
    return _ignores_failures(task) and kfp_dag._has_task_final_status_input(task)
