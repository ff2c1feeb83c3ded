"""The results of steps in the root: found by key, published once, staged as folders.

    objects/<first two digits>/<SHA-256>    contents of files, each once
    results/<step>/<key>.json               what a step made of which inputs: names and digests

A result is written after all its files, so that one that is found is whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import ValidationError

from perennial import __version__
from perennial.errors import LostError
from perennial.storage.digests import digest_file, digest_value
from perennial.storage.objects import FolderObjects, ListedObject, Objects, open_objects
from schemas.records import LeftInRoot, Reference, StepResult, StoredFile, StoredOutput

# The name that the accumulators of a span have among the results, beside those of steps; their
# value names the span.
SPAN_STEP = "analyse_span"
COPIES = "copies"  # folder of this machine with copies of a root's objects, where it is not on it
_AT_ONCE = 8  # files on their way to or from a store over a network
T = TypeVar("T")
_Inode = tuple[int, int, int, int]


class Results:
    """The results that lie in a root.

    Args:
        root: Folder or URL.
        local: Folder of this machine for scratch files and, where the root is not on it, for copies
            of objects.

    Raises:
        StoreError: The root's file system has no driver here.
    """

    def __init__(self, root: str, local: Path) -> None:
        self._objects = open_objects(root)
        self._copies: FolderObjects | None = None
        if not isinstance(self._objects, FolderObjects):
            self._copies = FolderObjects(local / COPIES)
        # Digests of files that were staged or published here: what a step passes on by a hard link
        # is neither read nor sent again.
        self._known: dict[_Inode, str] = {}
        # Results that were found: they never change, so a task reads each once.
        self._found: dict[str, StepResult] = {}

    @property
    def objects(self) -> Objects:
        """The objects in which the results lie."""
        return self._objects

    def find(self, step: str, key: str) -> StepResult | None:
        """Reads what a step made for a key; None where it has not.

        Raises:
            LostError: It is damaged, and was removed.
            StoreError: The root cannot be read.
        """
        name = result_name(step, key)
        if name not in self._found:
            data = self._objects.read(name)
            if data is None:
                return None
            result = _parse(data)
            if result is None:
                raise self._damaged(name, f"{len(data)} other bytes")
            self._found[name] = result
        return self._found[name]

    def of_step(self, step: str) -> list[StepResult]:
        """Reads all that a step has made, in the order of the keys; not what is damaged.

        Raises:
            StoreError: The root cannot be read.
        """
        return [result for _, result in sorted(self._read_all(f"results/{step}").items())]

    def all(self) -> dict[ListedObject, StepResult]:
        """Reads all results; not those that are damaged.

        Raises:
            StoreError: The root cannot be read.
        """
        return self._read_all("results")

    def _read_all(self, folder: str) -> dict[ListedObject, StepResult]:
        listed = list(self._objects.list(folder))
        read = self.in_parallel(lambda each: self._objects.read(each.name), listed)
        results = ((each, _parse(data)) for each, data in zip(listed, read, strict=True))
        return {each: result for each, result in results if result is not None}

    def publish(
        self,
        step: str,
        key: str,
        folders: Mapping[str, Path],
        metadata: Mapping[str, Mapping[str, Any]],
        value: Any = None,
    ) -> StepResult:
        """Stores the folders that a step made as its result for a key.

        Where another process published first, that one's result stands, and is given.

        Raises:
            StoreError: The root cannot be written.
        """
        outputs = {
            name: self._store(folder, dict(metadata.get(name, {})))
            for name, folder in folders.items()
        }
        result = StepResult(step=step, key=key, outputs=outputs, value=value)
        if self._objects.write_once(result_name(step, key), result.model_dump_json().encode()):
            return result
        first = self.find(step, key)
        return first if first is not None else result

    def files_of(self, reference: Reference) -> list[StoredFile]:
        """Lists the files of an output.

        Raises:
            LostError: It is not there any more.
            StoreError: The root cannot be read.
        """
        result = self.find(reference.step, reference.key)
        output = result.outputs.get(reference.output) if result is not None else None
        if output is None or output.digest != reference.digest:
            raise LostError(
                f"root {self._objects.location}",
                f"must hold what {reference.step} made ({reference.output})",
                "no such result" if output is None else "another result",
                "It was removed: run again, which makes it anew.",
            )
        return output.files

    def read_file(self, file: StoredFile) -> bytes:
        """Reads one file of an output.

        Raises:
            LostError: It is not there any more.
        """
        data = self._objects.read(object_name(file.digest))
        if data is None:
            raise self._damaged(object_name(file.digest), "no such object")
        return data

    def stage(
        self, reference: Reference, folder: Path, leaves: Callable[[str], bool] | None = None
    ) -> None:
        """Fills a folder with the files of an output, which must not be changed.

        Args:
            reference: Names the output.
            folder: Folder to fill.
            leaves: Tells by its path which file stays in the root; a record in its folder tells of
                it.

        Raises:
            LostError: The output is not there any more, or is damaged. Its result is forgotten, so
                that the next run makes it anew.
            StoreError: The root cannot be read.
        """
        files = self.files_of(reference)
        for parent in {folder / Path(file.path).parent for file in files} | {folder}:
            parent.mkdir(parents=True, exist_ok=True)
        left = [file for file in files if leaves is not None and leaves(file.path)]
        leave_in_root(left, folder)
        staged = [file for file in files if file not in left]
        try:
            self.in_parallel(lambda file: self._stage_file(file, folder / file.path), staged)
        except LostError:
            name = result_name(reference.step, reference.key)
            self._found.pop(name, None)
            self._objects.delete(name)
            raise

    def discard(self, result: StepResult) -> None:
        """Removes a result whose files turned out to be damaged, with them, so that it is remade.

        Raises:
            StoreError: The root cannot be written.
        """
        name = result_name(result.step, result.key)
        self._found.pop(name, None)
        self._objects.delete(name)
        for output in result.outputs.values():
            for file in output.files:
                self._objects.delete(object_name(file.digest))
                if self._copies is not None:
                    self._copies.delete(object_name(file.digest))

    def _store(self, folder: Path, metadata: dict[str, Any]) -> StoredOutput:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        left = [path.parent for path in paths if path.name == LeftInRoot.FILE]
        paths = [path for path in paths if path.name != LeftInRoot.FILE]
        names = [path.relative_to(folder).as_posix() for path in paths]
        files = self.in_parallel(self._store_file, zip(paths, names, strict=True))
        for place in left:
            inner = PurePosixPath(place.relative_to(folder).as_posix())
            files += [
                file.model_copy(update={"path": str(inner / file.path)})
                for file in LeftInRoot.read(place).files
            ]
        files.sort(key=lambda file: PurePosixPath(file.path))
        digest = digest_value([[file.path, file.digest] for file in files])
        return StoredOutput(digest=digest, files=files, metadata=metadata)

    def _store_file(self, named: tuple[Path, str]) -> StoredFile:
        path, name = named
        status = path.stat()
        inode = _inode(status)
        digest = self._known.get(inode)
        if digest is None:
            digest = digest_file(path)
            self._objects.add(path, object_name(digest))
            self._known[inode] = digest
        return StoredFile(path=name, digest=digest, size=status.st_size)

    def _stage_file(self, file: StoredFile, target: Path) -> None:
        name = object_name(file.digest)
        if self._copies is None:
            self._objects.fetch(name, target)
        else:
            if self._copies.size(name) != file.size:
                self._download(file)
            self._copies.fetch(name, target)
        status = target.stat()
        if status.st_size != file.size:
            raise self._damaged(name, f"{status.st_size} bytes instead of {file.size}")
        self._known[_inode(status)] = file.digest

    def _download(self, file: StoredFile) -> None:
        """Copies an object to this machine, and checks that it is the one that was stored."""
        assert self._copies is not None
        name = object_name(file.digest)
        with self._copies.temporary(name) as temporary:
            self._objects.fetch(name, temporary)
            if digest_file(temporary) != file.digest:
                raise self._damaged(name, "other bytes")
            self._copies.add(temporary, name)

    def _damaged(self, name: str, received: str) -> LostError:
        """Removes a damaged object, and makes the message."""
        self._objects.delete(name)
        return LostError(
            f"root {self._objects.location}: {name}",
            "must hold the bytes that were stored",
            received,
            "It was removed: run again, which makes it anew.",
        )

    def in_parallel(self, work: Callable[[T], Any], items: Iterable[T]) -> list[Any]:
        """Does the same for each item, several at once where the root is behind a network."""
        if self._copies is None:
            return [work(item) for item in items]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, items))


def leave_in_root(files: Iterable[StoredFile], folder: Path) -> None:
    """Records files that lie in the root alone, beside where each would be in a folder."""
    by_parent: dict[PurePosixPath, list[StoredFile]] = {}
    for file in files:
        path = PurePosixPath(file.path)
        left = file.model_copy(update={"path": path.name})
        by_parent.setdefault(path.parent, []).append(left)
    for parent, left_files in by_parent.items():
        (folder / parent).mkdir(parents=True, exist_ok=True)
        LeftInRoot(files=left_files).write(folder / parent)


def key_of(step: str, digest: str, inputs: Iterable[object]) -> str:
    """Computes the key of a step's result; another version of the product has other keys.

    Args:
        step: Name of the step.
        digest: What `Project.digest_of` gives for it: settings, files of the project and format.
        inputs: Its other inputs: references count by their digest, everything else as JSON.
    """
    return digest_value([__version__, step, digest, list(_digests(inputs))])


def reference_to(result: StepResult, output: str) -> Reference:
    """Makes the reference to one output of a result."""
    stored = result.outputs[output]
    return Reference(
        step=result.step,
        key=result.key,
        output=output,
        digest=stored.digest,
        size=sum(file.size for file in stored.files),
    )


def _digests(inputs: Iterable[object]) -> Iterator[object]:
    for item in inputs:
        if isinstance(item, Reference):
            yield item.digest
        elif isinstance(item, list | tuple):
            yield list(_digests(item))
        else:
            yield item


def _parse(data: bytes | None) -> StepResult | None:
    """Parses a result; None where there is none, or its bytes were damaged."""
    try:
        return StepResult.model_validate_json(data) if data is not None else None
    except ValidationError:
        return None


def _inode(status: os.stat_result) -> _Inode:
    """Tells one file from all others, and from one that takes its number when it is gone."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def object_name(digest: str) -> str:
    """Names the object that holds a file's contents."""
    return f"objects/{digest[:2]}/{digest}"


def result_name(step: str, key: str) -> str:
    """Names the object that holds a result."""
    return f"results/{step}/{key}.json"
