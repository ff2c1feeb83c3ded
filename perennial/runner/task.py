"""One step in a process of its own, when a pipeline runs on this machine."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from perennial.ledger.failures import describe_failure
from perennial.storage.atomic import publish_text


class TaskCommand(NamedTuple):
    """A Kubeflow task's command: the wrapper's source, its name and its inputs as JSON."""

    source: str
    function: str
    executor_input: str

    @property
    def key(self) -> str:
        """Gives the path of the task's outputs, which no other task and no other run has."""
        outputs = json.loads(self.executor_input).get("outputs", {})
        return str(outputs.get("outputFile", ""))


class TaskFailure(NamedTuple):
    """The message of a failed step for a person, the exit code of the command, and the step."""

    message: str
    exit_code: int
    step: str | None = None


def parse_command(command: Sequence[str]) -> TaskCommand:
    """Parses a command: `sh -c SCRIPT SOURCE --executor_input JSON --function_to_execute NAME`."""
    options = dict(itertools.pairwise(command))
    source = command[list(command).index("--executor_input") - 1]
    return TaskCommand(source, options["--function_to_execute"], options["--executor_input"])


def run_task(source: str, function: str, executor_input: str, failure: str) -> None:
    """Runs a task as Kubeflow's executor does; the arguments are the parts of a `TaskCommand`.

    Where the task fails, writes its `TaskFailure` to the file `failure` and ends the process with
    code 1.
    """
    with failure_written(function, Path(failure)):
        _execute(TaskCommand(source, function, executor_input))


@contextmanager
def failure_written(function: str, failure: Path) -> Iterator[None]:
    """Ends the process where the block fails, after writing why, as a `TaskFailure`."""
    try:
        yield
    except BaseException as error:
        failure_record = describe_failure(function, error)
        traceback.print_exc()
        described = TaskFailure(failure_record.message, failure_record.exit_code, function)
        publish_text(json.dumps(described._asdict()), failure)
        sys.exit(1)


def read_failure(path: Path) -> TaskFailure | None:
    """Reads what `run_task` wrote; None where the process ended before it could."""
    if not path.exists():
        return None
    return TaskFailure(**json.loads(path.read_text(encoding="utf-8")))


def _execute(task: TaskCommand) -> None:
    from kfp.dsl import executor_main

    with tempfile.TemporaryDirectory() as scratch:
        module = Path(scratch) / "ephemeral_component.py"
        module.write_text(task.source, encoding="utf-8")
        os.environ["_KFP_RUNTIME"] = "true"
        sys.argv = [
            "executor_main",
            *("--component_module_path", str(module)),
            *("--executor_input", task.executor_input),
            *("--function_to_execute", task.function),
        ]
        executor_main.executor_main()


if __name__ == "__main__":  # in a container, which gets its call as a file
    run_task(*json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
