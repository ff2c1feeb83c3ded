"""Files that the workers of a Beam pipeline read and write: of this machine, or in the root.

Workers of this machine share its files with the step that runs the pipeline. Workers elsewhere
share nothing with it but the root, which they reach by the product's own storage, with the account
that their environment gives them:

    objects/...                     data files, by SHA-256, as the step's result will name them
    unfinished/<step>/<unique>/...  all else that the step reads once the pipeline has ended

An object that a bundle wrote before it failed is one that no result names: `perennial clean`
removes it. What counts is what the bundles that succeeded say that they wrote.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, cast

from perennial.data.beam_options import workers_are_elsewhere
from perennial.errors import LostError
from perennial.results.store import leave_in_root, object_name
from perennial.results.unfinished import UNFINISHED
from perennial.storage.atomic import publish_bytes
from perennial.storage.digests import digest_file
from perennial.storage.objects import open_objects
from schemas.records import HandedFile, HandedFiles, StoredFile

if TYPE_CHECKING:
    from perennial.project import Project

_WORKER_START = "perennial.data.worker_start"
LEVEL = 1  # a third of the time of gzip's own choice (6), and files that are a quarter larger


def compressed(file: IO[bytes]) -> IO[bytes]:
    """Gives a stream that compresses into a file; equal bytes give equal files."""
    stream = gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0)
    return cast(IO[bytes], stream)


@dataclass(frozen=True)
class Workers:
    """The workers of a step's pipelines.

    Attributes:
        options: Beam pipeline options, with the runner.
        root: URL of the root where they are on other machines; None: on this one.
    """

    options: tuple[str, ...]
    root: str | None = None

    @classmethod
    def of(cls, project: Project) -> Workers:
        """Gives those that a project's settings name."""
        beam = project.settings.beam
        elsewhere = workers_are_elsewhere(beam)
        if not elsewhere:
            return cls(tuple(beam.arguments))
        return cls((*beam.arguments, f"--beam_plugin={_WORKER_START}"), project.root)


@dataclass(frozen=True)
class RootFile:
    """A file of a result, for workers that reach the root alone."""

    root: str
    digest: str


Source = str | RootFile
"""A file that workers read: its path on this machine, or where the root has it."""


@contextmanager
def on_worker(source: Source) -> Iterator[str]:
    """Gives the path of a file for the block, on whichever machine this is.

    Raises:
        LostError: The root does not hold it any more, or holds other bytes.
        StoreError: The root cannot be read.
    """
    if isinstance(source, str):
        yield source
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "file")
        objects, name = open_objects(source.root), object_name(source.digest)
        objects.fetch(name, file)
        if digest_file(file) != source.digest:
            raise LostError(
                f"root {objects.location}: {name}",
                "must hold the bytes that were stored",
                "other bytes",
                "Remove it, then run again, which makes it anew.",
            )
        yield str(file)


@dataclass(frozen=True)
class Handover:
    """Where workers put files for the step that runs their pipeline; it travels to them.

    Attributes:
        folder: Folder of this machine; empty where workers are elsewhere.
        root: URL of the root that workers elsewhere write to.
        name: Names the pipeline's own files below the root.
    """

    folder: str
    root: str = ""
    name: str = ""

    def give(self, name: str, data: bytes) -> None:
        """Writes a small file; a repeated bundle gives the same, and the first one stands."""
        if self.root:
            open_objects(self.root).write_once(f"{self.name}/{name}", data)
        else:
            publish_bytes(data, Path(self.folder, name))

    def give_folder(self, write: Callable[[Path], object]) -> None:
        """Gives what a function writes into a folder, whose files are small."""
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch))
            for file in sorted(Path(scratch).iterdir()):
                self.give(file.name, file.read_bytes())

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        """Gives what the step sent under a name as a file for the block.

        Raises:
            StoreError: The root cannot be read.
        """
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "file")
            open_objects(self.root).fetch(f"{self.name}/{name}", file)
            yield file

    def open_file(self) -> tuple[int, str]:
        """Opens a file that `keep` takes over, as `tempfile.mkstemp` does."""
        return tempfile.mkstemp(dir=self.folder or None)

    def keep(self, path: str, output: str, lasts: bool) -> HandedFile:
        """Takes a file over as a part of an output, and says where it is now.

        Args:
            path: The file, which `open_file` made.
            output: Names what it is a part of.
            lasts: Whether the step's result will name it.
        """
        size, name = os.path.getsize(path), os.path.basename(path)
        os.chmod(path, 0o644)  # a temporary file is its maker's alone
        if self.root:
            name = digest_file(Path(path)) if lasts else uuid.uuid4().hex
            held = object_name(name) if lasts else f"{self.name}/{name}"
            open_objects(self.root).add(Path(path), held)
            os.unlink(path)
        return HandedFile(output=output, name=name, size=size)


class PipelineFiles:
    """The files of one pipeline, as the step has them: to be used in a `with` statement.

    Args:
        workers: Who runs the pipeline.
        step: Name of the step.
        folder: Folder of this machine, on one file system with what the step makes; what workers of
            this machine give under a name lies there.

    Attributes:
        folder: The folder.
        handover: Where the workers put files.
    """

    def __init__(self, workers: Workers, step: str, folder: Path) -> None:
        self.folder = folder
        self._objects = None if workers.root is None else open_objects(workers.root)
        self._sent: set[str] = set()
        self.handover = Handover(str(folder))
        if workers.root is not None:
            name = f"{UNFINISHED}/{step}/{uuid.uuid4().hex}"
            self.handover = Handover("", workers.root, name)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes what the root held for the step."""
        if self._objects is not None:
            self._objects.delete_folder(self.handover.name)

    def send(self, file: Path, name: str) -> None:
        """Gives workers elsewhere a file of this machine.

        Raises:
            StoreError: The root cannot be written.
        """
        if self._objects is not None:
            self._objects.add(file, f"{self.handover.name}/{name}")
            self._sent.add(name)

    def receive(self) -> None:
        """Brings what workers elsewhere gave under a name into the folder.

        Raises:
            StoreError: The root cannot be read.
        """
        if self._objects is None:
            return
        for listed in self._objects.list(self.handover.name):
            name = listed.name.removeprefix(f"{self.handover.name}/")
            if name not in self._sent:
                self._objects.fetch(listed.name, self.folder / name)

    def paths(self, output: str) -> list[Path]:
        """Gives the files of an output that does not last, once they are received."""
        return sorted(self.folder / file.name for file in self._files(output))

    def place(self, output: str, prefix: Path) -> None:
        """Gives the files of an output that lasts their names `<prefix>-SSSSS-of-NNNNN.gz`.

        There is one at least, with nothing in it.
        """
        prefix.parent.mkdir(parents=True, exist_ok=True)
        files = sorted(self._files(output), key=lambda file: (-file.size, file.name))
        if not files:
            with open(f"{prefix}-00000-of-00001.gz", "wb") as empty:
                compressed(empty).close()
            return
        names = [f"{prefix}-{i:05d}-of-{len(files):05d}.gz" for i in range(len(files))]
        if self._objects is None:
            for file, name in zip(files, names, strict=True):
                os.replace(self.folder / file.name, name)
            return
        leave_in_root(
            (
                StoredFile(path=Path(name).name, digest=file.name, size=file.size)
                for file, name in zip(files, names, strict=True)
            ),
            prefix.parent,
        )

    def _files(self, output: str) -> list[HandedFile]:
        every = HandedFiles.read(self.folder).files
        return [file for file in every if file.output == output]
