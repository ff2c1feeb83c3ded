"""Does a local worker process's part of a training.

It ends with code 0, or with code 1 and, when the project or the training is at fault, a file that
says why.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from components.train_model.instance import train_here
from components.train_model.job import Job
from perennial import errors
from perennial.errors import PerennialError
from perennial.processes import die_with_parent
from perennial.storage.atomic import publish_text


def error_file(folder: Path, number: int) -> Path:
    """Names the file for a worker's error."""
    return folder / f"error-{number}.json"


def log_file(folder: Path, number: int) -> Path:
    """Names the file for what a worker prints."""
    return folder / f"worker-{number}.log"


def write_error(folder: Path, number: int, error: PerennialError) -> None:
    """Says what is wrong to the process that started this worker."""
    name, arguments = error.__reduce__()
    publish_text(json.dumps([name.__name__, *arguments]), error_file(folder, number))


def read_error(folder: Path, number: int) -> PerennialError | None:
    """Reads the error that a worker wrote, if any."""
    try:
        name, *arguments = json.loads(error_file(folder, number).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    kind: type[PerennialError] = getattr(errors, name, PerennialError)
    return kind(*arguments)


def work(job: Job, number: int, folder: Path, environment: Mapping[str, str]) -> None:
    """Does one worker's part of a job, in a process forked for it, and ends that process.

    Prints to its log.
    """
    die_with_parent()  # a killed step must not leave workers behind
    with open(os.devnull, "rb") as nothing, log_file(folder, number).open("ab") as log:
        for stream, file in enumerate((nothing, log, log)):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    try:
        train_here(job)
    except PerennialError as error:
        write_error(folder, number, error)
        sys.exit(1)
