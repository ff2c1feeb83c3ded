"""Opens, lists and reads files over paths and URLs; the one place that does.

A location is a path, or a URL of any file system that fsspec has a driver for (`s3://`, `gs://`,
`http://`, ...). `*` in a location stands for anything within one folder.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from perennial.errors import DataError, PerennialError, describe_error
from perennial.storage.compression import decompressor

_BLOCK = 1 << 20
_TOKEN = re.compile(r"\{[^{}]*\}")  # such as {YYYY}, as in data.spans
_CONNECT_SECONDS, _SILENT_SECONDS = 30.0, 120.0


def is_url(location: str) -> bool:
    """Tells whether a location is a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None


def expand(uri: str) -> list[str]:
    """Lists the files that a path, URL or pattern with `*` names, sorted by name.

    Raises:
        DataError: There is none, or the place cannot be looked into.
    """
    listed = list_files(uri)
    if not listed:
        if os.path.isdir(_local_path(uri)):
            raise DataError(uri, "must be a file", "a folder", "Name its files with `*`.")
        raise DataError(
            shown_uri(uri), "must name files", "no such file", "Land it, or correct the path."
        )
    return listed


def list_files(uri: str) -> list[str]:
    """Does the same as `expand`, but allows that there are none.

    Raises:
        DataError: The place cannot be looked into.
    """
    with _reported(uri):
        if is_url(uri) and not uri.startswith("file://"):
            return _list_remote(uri)
        return sorted(_walk("", _local_path(uri).split("/"), begun=False))


def find_files(folder: Path, pattern: str) -> list[str]:
    """Lists the files that a pattern of the settings names, sorted by name; there may be none.

    Args:
        folder: Relative patterns begin here.
        pattern: Path or URL; `*` and what stands in braces mean anything within one folder.

    Raises:
        DataError: The place cannot be looked into.
    """
    named = _TOKEN.sub("*", pattern.removeprefix("file://"))
    return list_files(named if is_url(named) else str(folder / named))


def fixed_folder(folder: Path, pattern: str) -> Path | None:
    """Gives the folder that holds all files of a pattern of the settings; None where it is a URL.

    Args:
        folder: Relative patterns begin here.
        pattern: Path or URL; `*` and what stands in braces mean anything within one folder.
    """
    named = _TOKEN.sub("*", pattern.removeprefix("file://"))
    if is_url(named):
        return None
    return (folder / named.partition("*")[0]).parent if "*" in named else (folder / named).parent


@contextmanager
def open_bytes(uri: str, decompress: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for reading; `.gz`, `.bz2`, `.xz` and `.zst` are decompressed on the way.

    A broken compressed stream raises one of `compression.CORRUPT`, or an OSError without a number,
    while it is read.

    Raises:
        DataError: The file is not there or cannot be read, its file system has no driver, or a
            connection fails (also later, while it is read).
    """
    with _reported(uri):
        raw = _open(uri)
    with raw:
        method = decompressor(_suffix(uri)) if decompress else None
        if method is None:
            yield raw
            return
        with method(raw) as stream:
            yield stream


def stat_of(uri: str) -> list[int | str] | None:
    """Gives what changes whenever a file's bytes do; None if its file system has no such thing.

    Raises:
        DataError: The file is not there.
    """
    with _reported(uri):
        if not is_url(uri) or uri.startswith("file://"):
            status = os.stat(_local_path(uri))
            return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        system, path = _file_system(uri)
        details: dict[str, Any] = system.info(path)
    for name in ("ETag", "etag", "md5Hash", "generation", "VersionId"):
        # A weak ETag promises the same meaning, not the same bytes. Source: RFC 9110, section
        # 8.8.1.
        if details.get(name) and not str(details[name]).startswith("W/"):
            return [str(details.get("size")), name, str(details[name])]
    return None


def _suffix(uri: str) -> str:
    path = urlsplit(uri).path if is_url(uri) else uri
    return os.path.splitext(path)[1].lower()


def _local_path(uri: str) -> str:
    return uri.removeprefix("file://")


def _open(uri: str) -> BinaryIO:
    if not is_url(uri) or uri.startswith("file://"):
        return open(_local_path(uri), "rb")
    system, path = _file_system(uri)
    # HTTP servers need not be able to begin in the middle: theirs are read from the beginning to
    # the end.
    streamed = {"block_size": 0} if uri.startswith(("http://", "https://")) else {}
    return cast(
        BinaryIO, io.BufferedReader(_RemoteFile(uri, system.open(path, "rb", **streamed)), _BLOCK)
    )


def _file_system(uri: str) -> tuple[Any, str]:
    """Gives fsspec's file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if uri.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        # The default ends any transfer after five minutes, however fast it is.
        timeout = ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS
        )
        options = {"client_kwargs": {"timeout": timeout}}
    system, path = url_to_fs(uri, **options)
    return system, path


def _list_remote(uri: str) -> list[str]:
    system, path = _file_system(uri)
    system.invalidate_cache()
    try:
        if "*" not in path:
            system.info(path)
            return [uri]
        matches = system.glob(path)
    except FileNotFoundError as error:
        if not _missing(error):
            raise
        return []
    before, fixed = (
        uri[: uri.index("*")],
        path[: path.index("*")],
    )  # drivers give paths, some without the protocol
    return sorted(before + file.removeprefix(fixed) for file in matches)


def _missing(error: BaseException | None) -> bool:
    """Tells a missing file from a server that does not answer or refuses."""
    if not isinstance(error, FileNotFoundError):
        return getattr(error, "status", None) in (404, 410)
    return error.__cause__ is None or _missing(error.__cause__)


def _walk(base: str, parts: list[str], begun: bool) -> Iterator[str]:
    """Lists files below `base` whose path has `parts`; `begun`: `base` came from a wildcard."""
    if not parts:
        if _is_file(base, begun):
            yield base
        return
    part, *rest = parts
    if "*" not in part:
        yield from _walk(f"{base}{part}{'/' * bool(rest)}", rest, begun)
        return
    named = re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL)
    for name in _names(base, begun):
        # Names that begin with a dot are files that are being written; as in a shell, no wildcard
        # means them.
        if named.fullmatch(name) and not (name.startswith(".") and part.startswith("*")):
            yield from _walk(f"{base}{name}{'/' * bool(rest)}", rest, True)


def _is_file(path: str, begun: bool) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        if begun:  # a stray file beside the folders that a wildcard means
            return False
        raise


def _names(folder: str, begun: bool) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        if begun:
            return []
        raise


@contextmanager
def _reported(uri: str) -> Iterator[None]:
    """Turns a file system's error into a message about `uri`."""
    try:
        yield
    except PerennialError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(error.__cause__, Exception) and not _missing(error):
            raise _unreachable(uri, error.__cause__) from error
        received = (
            "no such file"
            if isinstance(error, FileNotFoundError)
            else "a part of its path is a file"
        )
        raise DataError(
            shown_uri(uri), "must be a file", received, "Land it, or correct the path."
        ) from error
    except IsADirectoryError as error:
        raise DataError(
            shown_uri(uri), "must be a file", "a folder", "Name a file, or its files with `*`."
        ) from error
    except PermissionError as error:
        remedy = "Let the account that runs Perennial read it."
        raise DataError(
            shown_uri(uri), "must be readable", error.strerror or error, remedy
        ) from error
    except Exception as error:
        if not is_url(uri) and not isinstance(error, OSError):
            raise
        raise _unreachable(uri, error) from error


def _unreachable(uri: str, error: Exception) -> DataError:
    """Makes the message for a file system without a driver, or one that does not answer."""
    if isinstance(error, ImportError):
        package = _driver(uri)
        return DataError(
            shown_uri(uri),
            f"needs the package {package}",
            "it is not installed",
            f"Install it: pip install {package}",
        )
    if isinstance(error, ValueError) and "Protocol not known" in str(error):
        remedy = "Use a path, or a URL of a file system that fsspec knows."
        return DataError(
            shown_uri(uri), "must be on a file system that fsspec knows", error, remedy
        )
    remedy = "Check the address, the connection and the account's rights, then run again."
    return DataError(shown_uri(uri), "must be readable", describe_error(error), remedy)


def _driver(uri: str) -> str:
    from fsspec.registry import known_implementations

    known = known_implementations.get(uri.split(":", 1)[0], {})
    return str(known.get("class", "with its driver")).split(".")[0]


def shown_uri(uri: str) -> str:
    """Gives a location without the password that its URL may hold."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)


class _RemoteFile(io.RawIOBase):
    """A file of fsspec whose errors name its location."""

    def __init__(self, uri: str, file: Any) -> None:
        self._uri, self._file = uri, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _reported(self._uri):
            return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        with _reported(self._uri):
            block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()
