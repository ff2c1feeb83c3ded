"""One local worker process: `python -m components.train_model.worker SPEC.json NUMBER`, with TF_CONFIG set.

It ends with code 0, or with code 1 and, when the project or the training is at fault, a file that says why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from components.train_model.job import Job
from components.train_model.training import train_here
from perennial import errors
from perennial.errors import PerennialError
from perennial.processes import die_with_parent
from perennial.publishing import publish_text
from perennial.tfx_compat import prepare_process

SPEC_FILE = "job.json"


def error_file(folder: Path, number: int) -> Path:
    """Where a worker says what is wrong."""
    return folder / f"error-{number}.json"


def write_error(folder: Path, number: int, error: PerennialError) -> None:
    """Says what is wrong to the process that started this worker."""
    name, arguments = error.__reduce__()
    publish_text(json.dumps([name.__name__, *arguments]), error_file(folder, number))


def read_error(folder: Path, number: int) -> PerennialError | None:
    """What a worker said is wrong, if anything."""
    try:
        name, *arguments = json.loads(error_file(folder, number).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    kind: type[PerennialError] = getattr(errors, name, PerennialError)
    return kind(*arguments)


def main(spec: Path, number: int) -> int:
    """Does one worker's part of a job; gives the exit code."""
    try:
        train_here(Job.model_validate_json(spec.read_text(encoding="utf-8")))
    except PerennialError as error:
        write_error(spec.parent, number, error)
        return 1
    return 0


if __name__ == "__main__":
    die_with_parent()  # a killed step must not leave workers behind
    prepare_process()
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
