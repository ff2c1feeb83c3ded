"""Copies results from a root into a folder, and leaves the root as it is."""

from __future__ import annotations

from pathlib import Path

from perennial.errors import LostError
from perennial.results.store import Results, object_name, result_name
from perennial.storage.digests import digest_file
from perennial.storage.objects import FolderObjects
from schemas.records import Reference, StepResult, StoredFile


class ResultCopies:
    """Copies of results: they share no file with the root, and what is damaged there stays.

    Args:
        source: The results in the root.
        target: The folder, which becomes a root that holds the copies.
    """

    def __init__(self, source: Results, target: FolderObjects) -> None:
        self._source, self._target = source, target

    def copy_object(self, name: str, private: bool = False) -> bytes:
        """Copies an object that is small enough to be read at once; gives its bytes.

        Raises:
            LostError: It is not there any more.
            StoreError: The root cannot be read.
        """
        data = self._source.objects.read(name)
        if data is None:
            raise self._lost(name, "no such object")
        self._target.write_once(name, data, private)
        return data

    def copy_record(self, step: str, key: str) -> StepResult:
        """Copies what says what a step made, and none of its files.

        Raises:
            LostError: It is not there any more.
            StoreError: The root cannot be read.
        """
        return StepResult.model_validate_json(self.copy_object(result_name(step, key)))

    def copy_output(self, reference: Reference) -> None:
        """Copies one output of a result.

        Raises:
            LostError: It is not there any more, or is another one.
            StoreError: The root cannot be read.
        """
        output = self.copy_record(reference.step, reference.key).outputs.get(reference.output)
        if output is None or output.digest != reference.digest:
            raise self._lost(result_name(reference.step, reference.key), "another result")
        self._source.in_parallel(self._copy_file, output.files)

    def _copy_file(self, file: StoredFile) -> None:
        name = object_name(file.digest)
        if self._target.size(name) == file.size:
            return

        def write(place: Path) -> None:
            self._source.objects.fetch(name, place)  # copies: no link takes the place of a file
            if digest_file(place) != file.digest:
                raise self._lost(name, "other bytes")

        self._target.write_file_once(name, write)

    def _lost(self, name: str, received: str) -> LostError:
        return LostError(
            f"root {self._source.objects.location}: {name}",
            "must hold what the run's tasks were given",
            received,
            "`perennial clean` removes what is old: take a newer run, or run again.",
        )
