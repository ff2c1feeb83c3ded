"""Unfinished work in the root: what was done of it, for whoever goes on after a kill, anywhere.

    unfinished/<step>/<key>/<part>

Each part is written once and whole, under a name that sorts by the order of the work. The key is a
digest of everything that decides what becomes of the work, so that whoever repeats it finds its own
parts, and never those of other work. The writer removes them once the result is published;
`perennial clean` removes those that nobody went on with.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from perennial.errors import LostError, ProjectError
from perennial.storage.digests import digest_file
from perennial.storage.objects import FolderObjects, open_objects
from schemas.records import StoredFile, StoredOutput

UNFINISHED = "unfinished"
_FOLDER, _FILES = "folder-", "files"
_NAMES = 3  # step, key, part


class UnfinishedWork:
    """The parts of one piece of work that are done.

    Args:
        root: Folder or URL.
        step: Name of the step whose work it is.
        key: Digest of everything that decides what becomes of it.

    Raises:
        StoreError: Any method: the root cannot be reached, or refuses.
    """

    def __init__(self, root: str, step: str, key: str) -> None:
        self._objects, self._root = open_objects(root), root
        self._folder = f"{UNFINISHED}/{step}/{key}"

    @classmethod
    def of_part(cls, uri: str) -> tuple[Self, str]:
        """Opens the work that the part at a URI is of; also gives the name of the part.

        Raises:
            ProjectError: The URI is that of no part.
        """
        root, _, path = uri.rpartition(f"/{UNFINISHED}/")
        names = path.split("/")
        if not root or len(names) != _NAMES:
            raise ProjectError(
                uri or "the URI",
                f"must name a part of unfinished work (ROOT/{UNFINISHED}/STEP/KEY/PART)",
                "something else",
                "Correct it.",
            )
        step, key, part = names
        return cls(root, step, key), part

    def uri(self, part: str) -> str:
        """Gives the URI of a part, which any machine that reaches the root opens it by."""
        return f"{self._root}/{self._folder}/{part}"

    @property
    def place(self) -> str:
        """Gives the folder or URL that the parts lie in, to be shown."""
        return f"{self._objects.location.rstrip('/')}/{self._folder}"

    @property
    def is_near(self) -> bool:
        """Tells whether the parts are files of this machine, which cost next to nothing."""
        return isinstance(self._objects, FolderObjects)

    def parts(self) -> list[str]:
        """Lists the parts in the order of the work."""
        listed = self._objects.list(self._folder)
        return sorted(each.name.removeprefix(f"{self._folder}/") for each in listed)

    def read(self, part: str) -> bytes | None:
        """Reads a part; None where it is gone."""
        return self._objects.read(f"{self._folder}/{part}")

    @contextmanager
    def as_file(self, part: str) -> Iterator[Path]:
        """Gives a part as a file for the block, which must not be changed.

        Raises:
            LostError: It is gone.
        """
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "part")
            self._objects.fetch(f"{self._folder}/{part}", file)
            yield file

    def write(self, part: str, data: bytes) -> None:
        """Writes a part; one that is there already stands."""
        self._objects.write_once(f"{self._folder}/{part}", data)

    def write_file(self, part: str, write: Callable[[Path], object]) -> None:
        """Does the same with what a function writes into a file."""
        self._objects.write_file_once(f"{self._folder}/{part}", write)

    def remove(self, part: str) -> None:
        """Removes one part."""
        self._objects.delete(f"{self._folder}/{part}")

    def remove_all(self) -> None:
        """Removes all parts."""
        self._objects.delete_folder(self._folder)


class SavedFolder:
    """A folder that somebody else's code works in, saved as parts of unfinished work.

        folder-<number>.json    the files of the folder, the newest counts
        files/<SHA-256>         their contents, each once

    Args:
        work: The work.
        folder: Folder of this machine.
    """

    def __init__(self, work: UnfinishedWork, folder: Path) -> None:
        self._work, self._folder = work, folder
        self._saved: set[str] = set()

    def save(self) -> None:
        """Saves the folder as it is; nobody may write to it meanwhile."""
        files = [self._save(path) for path in sorted(self._folder.rglob("*")) if path.is_file()]
        output = StoredOutput(digest="", files=files)
        before = sorted(part for part in self._saved if part.startswith(_FOLDER))
        number = int(before[-1][len(_FOLDER) : -len(".json")]) + 1 if before else 1
        part = f"{_FOLDER}{number:05d}.json"
        self._work.write(part, output.model_dump_json().encode())
        self._saved.add(part)
        for old in before:
            self._work.remove(old)
            self._saved.remove(old)

    def restore(self) -> None:
        """Fills the empty folder as it was saved last; it stays empty where that is not whole."""
        self._saved = set(self._work.parts())
        newest = max((part for part in self._saved if part.startswith(_FOLDER)), default=None)
        data = self._work.read(newest) if newest is not None else None
        if data is None:
            return
        try:
            for file in StoredOutput.model_validate_json(data).files:
                target = self._folder / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._work.as_file(f"{_FILES}/{file.digest}") as contents:
                    shutil.copyfile(contents, target)
        except LostError:  # its removal was cut short
            for path in self._folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _save(self, path: Path) -> StoredFile:
        digest = digest_file(path)
        part = f"{_FILES}/{digest}"
        if part not in self._saved:
            # A copy: whoever works in the folder may change the file in place.
            self._work.write_file(part, lambda temporary: shutil.copyfile(path, temporary))
            self._saved.add(part)
        name = path.relative_to(self._folder).as_posix()
        return StoredFile(path=name, digest=digest, size=path.stat().st_size)
