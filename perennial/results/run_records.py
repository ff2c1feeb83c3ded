"""Keeps what a run leaves of itself in the root, beside the results of its steps.

    runs/<run>/inputs/<step>[/<part>].json  what each task was given: parameters and references
    runs/<run>/made/<step>[/<part>].json    what each task made: references of a few hundred bytes
    runs/<run>/...                          the report and its files
    runs/<run>/outcome.json                 how the run ended, written last

The run's end finds there what the report shows, whichever machines the tasks worked on, and a
person what to run a task once more with.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from perennial.results.store import Results
from schemas.records import RunEnded, StepMade, TaskInputs

OUTCOME_FILE = "outcome.json"
RUNS = "runs"  # the folder of all runs


class RunRecords:
    """The records of one run in a root."""

    def __init__(self, results: Results, run: str) -> None:
        self._results, self._objects, self._run = results, results.objects, run

    @property
    def place(self) -> str:
        """Gives where they lie: a folder or a URL."""
        return f"{self._objects.location}/{self._name('')}".rstrip("/")

    def begin(self, inputs: TaskInputs) -> None:
        """Records what a task was given; that of its last attempt counts.

        Raises:
            StoreError: The root cannot be written.
        """
        name = _task_name("inputs", inputs.step, inputs.part)
        self._write(name, inputs.model_dump_json().encode())

    def inputs(self) -> list[TaskInputs]:
        """Reads what the tasks of the run were given, but those that take and end the run.

        Raises:
            StoreError: The root cannot be read.
        """
        return [TaskInputs.model_validate_json(data) for data in self._read_all("inputs")]

    def leave(self, made: StepMade) -> None:
        """Records what a task made; that of its last attempt counts.

        Raises:
            StoreError: The root cannot be written.
        """
        name = _task_name("made", made.step, made.part)
        self._write(name, made.model_dump_json().encode())

    def made(self) -> list[StepMade]:
        """Reads what the tasks of the run made.

        Raises:
            StoreError: The root cannot be read.
        """
        return [StepMade.model_validate_json(data) for data in self._read_all("made")]

    def publish(self, folder: Path, names: Iterable[str]) -> None:
        """Publishes files and folders of a folder, those of these names that are there.

        Raises:
            StoreError: The root cannot be written.
        """
        if self.place == str(folder):  # the root is the state folder
            return
        places = [folder / name for name in names]
        inner = [path for place in places for path in place.rglob("*")]
        paths = sorted(path for path in (*places, *inner) if path.is_file())
        self._results.in_parallel(
            lambda path: self._write(path.relative_to(folder).as_posix(), path.read_bytes()), paths
        )

    def end(self, ended: RunEnded) -> None:
        """Publishes how the run ended; to be done last.

        Raises:
            StoreError: The root cannot be written.
        """
        self._write(OUTCOME_FILE, ended.model_dump_json(indent=2).encode())

    def ended(self) -> RunEnded | None:
        """Reads how the run ended; None: it has not, or could not write that into the root.

        Raises:
            StoreError: The root cannot be read.
        """
        data = self._objects.read(self._name(OUTCOME_FILE))
        return RunEnded.model_validate_json(data) if data is not None else None

    def _read_all(self, folder: str) -> list[bytes]:
        listed = list(self._objects.list(self._name(folder)))
        read = self._results.in_parallel(lambda each: self._objects.read(each.name), listed)
        return [data for data in read if data is not None]

    def _name(self, name: str) -> str:
        return f"{RUNS}/{self._run}/{name}"

    def _write(self, name: str, data: bytes) -> None:
        """Writes an object, in the place of one that an earlier attempt of the run wrote."""
        object_name = self._name(name)
        while not self._objects.write_once(object_name, data):
            if self._objects.read(object_name) == data:
                return
            self._objects.delete(object_name)


def _task_name(folder: str, step: str, part: str) -> str:
    return f"{folder}/{step}/{part}.json" if part else f"{folder}/{step}.json"
