"""Named objects that are written once: files of a folder, or objects of any store fsspec knows.

Nothing here is ever changed in place. An object appears whole or not at all, and of two writers of
one name the first wins, on every kind of store.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from typing_extensions import override

from perennial.errors import LostError, PerennialError, StoreError, describe_error
from perennial.storage.faults import Patience
from perennial.storage.files import is_url, shown_uri

# Seconds until a server must have taken a connection, and between two parts of an answer.
_CONNECT_SECONDS, _SILENT_SECONDS = 10.0, 30.0
# Of S3's driver, which tries what the network cut at once, where it was cut.
_ATTEMPTS_OF_DRIVER = 2
_REMEMBERED_SECONDS = 600.0
R = TypeVar("R")


class ListedObject(NamedTuple):
    """An object as a listing tells of it: its bytes, and when it was written."""

    name: str
    size: int
    written: datetime


class Objects(ABC):
    """A store of named objects; names have `/` between their parts.

    Raises:
        StoreError: Any method of one on a server: it cannot be reached, or refuses.
    """

    location: str

    def assume_answered(self) -> None:
        """Takes the store for one that has answered, as it did in another process.

        One that is absent then starts again, and is waited for longer.
        """
        return  # a folder is there or not

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Reads an object; None where there is none."""

    @abstractmethod
    def write_once(self, name: str, data: bytes, private: bool = False) -> bool:
        """Writes an object unless there is one of that name; tells whether it did.

        In a folder, only this account may read one that is `private`; on a server, its rights are
        the store's.
        """

    @abstractmethod
    def write_file_once(self, name: str, write: Callable[[Path], object]) -> bool:
        """Does the same with what a function writes into a file; tells whether it did."""

    @abstractmethod
    def add(self, file: Path, name: str) -> None:
        """Stores a file's contents unless there is an object of that name."""

    @abstractmethod
    def fetch(self, name: str, file: Path) -> None:
        """Gives an object's contents as a file, which must not be changed."""

    @abstractmethod
    def list(self, folder: str) -> Iterator[ListedObject]:
        """Lists the objects below a folder."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Removes an object, if there is one."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Removes all objects below a folder that nobody writes to."""


def open_objects(root: str) -> Objects:
    """Opens the store at a folder or URL; nothing is read or written yet.

    Raises:
        StoreError: The URL's file system has no driver here.
    """
    if is_url(root) and not root.startswith("file://"):
        until = time.monotonic() // _REMEMBERED_SECONDS
        return _open_remote(root, os.getpid(), frozenset(os.environ.items()), until)
    return FolderObjects(Path(root.removeprefix("file://")))


@lru_cache(maxsize=4)
def _open_remote(
    url: str, _process: int, _environment: frozenset[tuple[str, str]], _until: float
) -> RemoteObjects:
    """Opens a store once for all who read and write it in a task: a client takes 0.2 s to make.

    One of another process or another account is another one, and none is used for long, as keys
    in files change, too.
    """
    return RemoteObjects(url)


class FolderObjects(Objects):
    """Objects as files of a folder, which share their bytes with what they were made of.

    Errors of the file system stay what they are: what to do is known of each.
    """

    def __init__(self, folder: Path) -> None:
        self.location, self._folder = str(folder), folder

    @override
    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    @override
    def write_once(self, name: str, data: bytes, private: bool = False) -> bool:
        mode = 0o600 if private else 0o644
        return self._publish(name, lambda temporary: temporary.write_bytes(data), mode)

    @override
    def write_file_once(self, name: str, write: Callable[[Path], object]) -> bool:
        return self._publish(name, write)

    @override
    def add(self, file: Path, name: str) -> None:
        target = self._folder / name
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _flush(file)
        try:
            os.link(file.resolve(), target)
        except FileExistsError:
            return
        except OSError:  # another file system, or one without hard links
            self._publish(name, lambda temporary: shutil.copyfile(file, temporary))

    @override
    def fetch(self, name: str, file: Path) -> None:
        try:
            os.link(self._folder / name, file)
        except FileNotFoundError as error:
            raise _lost(self.location, name) from error
        except OSError:
            shutil.copyfile(self._folder / name, file)

    @override
    def list(self, folder: str) -> Iterator[ListedObject]:
        for place, _, files in os.walk(self._folder / folder):
            for file in files:
                path = Path(place, file)
                if not file.startswith("."):  # one that is being written
                    name, status = path.relative_to(self._folder).as_posix(), path.stat()
                    # Of a hard link: since when the object has its name.
                    written = datetime.fromtimestamp(status.st_ctime, UTC)
                    yield ListedObject(name, status.st_size, written)

    @override
    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    @override
    def delete_folder(self, folder: str) -> None:
        shutil.rmtree(self._folder / folder, ignore_errors=True)

    def size(self, name: str) -> int | None:
        """Gives an object's bytes; None where there is none."""
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def temporary(self, name: str) -> Iterator[Path]:
        """Gives an empty file beside where an object will be, which is gone after the block."""
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
        os.close(handle)
        try:
            yield Path(path)
        finally:
            os.unlink(path)

    def _publish(self, name: str, write: Callable[[Path], object], mode: int = 0o644) -> bool:
        """Writes aside, flushes, and links under its name, which fails where there is one."""
        with self.temporary(name) as temporary:
            write(temporary)
            temporary.chmod(mode)
            _flush(temporary)
            try:
                os.link(temporary, self._folder / name)
            except FileExistsError:
                return False
            return True


class RemoteObjects(Objects):
    """Objects of a store behind a URL; faults that pass are tried again.

    Credentials come from the environment or the platform, as the driver finds them.
    """

    def __init__(self, url: str) -> None:
        self.location = shown_uri(url)
        with _reported(self.location, "be a place that a driver can write to"):
            from fsspec.core import url_to_fs

            # The driver remembers whom it was first opened for, whatever the environment says now.
            system, path = url_to_fs(url, skip_instance_cache=True, **_options_of(url))
        if url.startswith("s3"):
            system.retries = _ATTEMPTS_OF_DRIVER
        self._system: Any = system
        self._path = path.rstrip("/")
        self._patience = Patience()

    @override
    def assume_answered(self) -> None:
        self._patience.answered = True

    @override
    def read(self, name: str) -> bytes | None:
        with _reported(self.location, "be readable"):
            try:
                data: bytes = self._tried(lambda: self._system.cat_file(self._at(name)))
            except FileNotFoundError:
                return None
            return data

    @override
    def write_once(self, name: str, data: bytes, private: bool = False) -> bool:
        return self._create(
            name, lambda: self._system.pipe_file(self._at(name), data, mode="create")
        )

    @override
    def write_file_once(self, name: str, write: Callable[[Path], object]) -> bool:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "file")
            write(file)
            return self._create(
                name, lambda: self._system.put_file(str(file), self._at(name), mode="create")
            )

    def _create(self, name: str, create: Callable[[], object]) -> bool:
        """Writes an object by a call that fails where there is one; tells whether it did."""
        with _reported(self.location, "take new objects"):
            try:
                self._tried(create, writes=True)
            except FileExistsError:
                return False
            except OSError:
                # S3's driver tells of an object that exists as of an invalid argument; and where
                # the answer to a first attempt was lost, that attempt has written it.
                if not self._tried(lambda: self._system.exists(self._at(name))):
                    raise
                return False
            return True

    @override
    def add(self, file: Path, name: str) -> None:
        with _reported(self.location, "take new objects"):
            # Named after its contents: written twice it is the same.
            if not self._tried(lambda: self._system.exists(self._at(name))):
                self._tried(lambda: self._system.put_file(str(file), self._at(name)), writes=True)

    @override
    def fetch(self, name: str, file: Path) -> None:
        with _reported(self.location, "hold what earlier steps made"):
            try:
                self._tried(lambda: self._system.get_file(self._at(name), str(file)))
            except FileNotFoundError as error:
                raise _lost(self.location, name) from error

    @override
    def list(self, folder: str) -> Iterator[ListedObject]:
        with _reported(self.location, "be readable"):
            try:
                listed = self._tried(
                    lambda: self._system.find(self._at(folder), detail=True, withdirs=False)
                )
            except FileNotFoundError:
                return
        for path, details in listed.items():
            name = path.removeprefix(f"{self._path}/")
            if not name.startswith(f"{folder}/") or name.endswith("/"):
                continue  # stores that know folders list an empty one as an object
            yield ListedObject(name, int(details["size"] or 0), _written(details))

    @override
    def delete(self, name: str) -> None:
        with _reported(self.location, "let objects be removed"):
            try:
                self._tried(lambda: self._system.rm_file(self._at(name)))
            except FileNotFoundError:
                return

    @override
    def delete_folder(self, folder: str) -> None:
        with _reported(self.location, "let objects be removed"):
            try:
                self._tried(lambda: self._system.rm(self._at(folder), recursive=True))
            except FileNotFoundError:
                return

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _tried(self, call: Callable[[], R], writes: bool = False) -> R:
        """Calls, and calls again after a fault that can pass: a lost connection, a busy server."""
        return self._patience.call(self._fresh(call), writes)

    def _fresh(self, call: Callable[[], R]) -> Callable[[], R]:
        """Lets no call answer from a listing that the driver remembers."""

        def fresh() -> R:
            self._system.invalidate_cache()
            return call()

        return fresh


def _options_of(url: str) -> dict[str, Any]:
    """Gives the driver's options: faults are tried again here, and not in several layers."""
    if not url.startswith("s3"):
        return {}
    once = {"total_max_attempts": 1, "mode": "standard"}
    timeouts = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _SILENT_SECONDS}
    return {"config_kwargs": {"retries": once, **timeouts}}


@contextmanager
def _reported(location: str, expected: str) -> Iterator[None]:
    """Turns errors of a store on a server into a message that names it."""
    try:
        yield
    except PerennialError:
        raise
    except Exception as error:
        remedy = "Check the address, the account's rights and the free space, then run again."
        if isinstance(error, ImportError):
            remedy = f"Install the driver of its file system: {error}."
        raise StoreError(
            f"root {location}", f"must {expected}", describe_error(error), remedy
        ) from error


def _written(details: Mapping[str, Any]) -> datetime:
    """Reads when an object was written, which drivers name each in their way; else now."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = details.get(name)
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC)
    return datetime.now(UTC)


def _lost(location: str, name: str) -> LostError:
    return LostError(
        f"root {location}",
        "must hold what earlier steps made",
        f"no {name}",
        "It was removed: run again, which makes it anew.",
    )


def _flush(file: Path) -> None:
    """Writes a file's bytes to the disk, before a name makes them visible."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
