"""Does one worker's part of a training: `python -m components.train_model.worker URI`.

The URI names the job's description in the root. Workers of this machine and pods of a cluster run
this command; only how they are told of each other differs. It ends with code 0, or with code 1
and, when the project or the training is at fault, an error beside the description.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from components.train_model.job import JobDescription, Work, open_work, read_description
from perennial.errors import PerennialError, ProjectError, StoreError
from perennial.project import Project, load_project
from perennial.results.unfinished import SavedFolder
from perennial.tfx_compat import prepare_process
from perennial.training.strategy import CLUSTER

COMMAND = ("python", "-m", "components.train_model.worker")
HOSTS = "PERENNIAL_WORKER_HOSTS"
"""Environment variable with the HOST:PORT of every worker of a cluster, in the order of their
numbers, separated by commas."""
INDEX = "JOB_COMPLETION_INDEX"
"""Environment variable with the number of a pod in its Job.

Source: Kubernetes, Indexed Job.
"""
PORT = 2222
_USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Runs the command; gives its exit code."""
    if len(arguments) != 1:
        print(f"usage: {' '.join(COMMAND)} URI", file=sys.stderr)
        return _USAGE
    prepare_process()
    # The first process of a container is not ended by signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    return run_worker(arguments[0])


def run_worker(uri: str, project: Project | None = None) -> int:
    """Trains what the description at a URI says; gives the exit code of the process.

    Args:
        uri: Of the description.
        project: As the step opened it, of a worker that is a child of the step; None: it is loaded
            from where the description says.
    """
    try:
        work = open_work(uri)
        number = join_cluster(os.environ)
    except PerennialError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    try:
        _train(read_description(uri), work, project)
    except PerennialError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        with suppress(StoreError):  # then the step has the log's last lines
            work.write_error(number, error)
        return 1
    return 0


def join_cluster(environment: MutableMapping[str, str]) -> int:
    """Tells TensorFlow of the other workers; gives the number of this one.

    In a pod, from its number in the Job and the names of all pods; where TF_CONFIG is set, that
    says both.

    Raises:
        ProjectError: The variables name no cluster with this worker in it.
    """
    if config := environment.get(CLUSTER):
        try:
            return int(json.loads(config)["task"]["index"])
        except (ValueError, KeyError, TypeError):
            return 0  # the strategy says what is wrong with it
    hosts, index = environment.get(HOSTS, ""), environment.get(INDEX, "")
    addresses = hosts.split(",") if hosts else []
    if not index.isdecimal() or int(index) >= len(addresses):
        raise ProjectError(
            "environment",
            f"must name the workers in {HOSTS} (HOST:PORT,HOST:PORT) and the number of this one, "
            f"from 0, in {INDEX}",
            f"{HOSTS}={hosts!r}, {INDEX}={index!r}",
            "Start workers by a TrainJob, or set both.",
        )
    task = {"type": "worker", "index": int(index)}
    environment[CLUSTER] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    return int(index)


def _train(description: JobDescription, work: Work, project: Project | None) -> None:
    from components.train_model.instance import train_here
    from schemas.records import Training

    if project is None:
        project = load_project(description.project)
        project = project.opened_for("train_model", description.digest)
    with ExitStack() as stack:
        if description.output is None:
            project.scratch.mkdir(parents=True, exist_ok=True)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=project.scratch)))
            job = description.stage(project, scratch)
        else:
            job = description.open(project, description.output)
        train_here(job)
        if description.output is None and (job.output / Training.FILE).is_file():
            SavedFolder(work.parts, job.output).save()  # of the chief, which alone has written it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
