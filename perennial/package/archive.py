"""A package as bytes: made the same of the same files, checked before anything of it is used."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perennial import __version__
from perennial.errors import IntegrityError, describe_error
from perennial.package.git import git_state
from perennial.storage.digests import digest_value
from schemas.records import PackageManifest, StoredFile

if TYPE_CHECKING:
    from importlib.metadata import Distribution


@dataclass(frozen=True)
class Archive:
    """A package: an uncompressed tar file, whose SHA-256 is its name.

    Uncompressed, because the bytes that compression makes differ by the version of its library.
    """

    data: bytes

    @cached_property
    def digest(self) -> str:
        """Computes its SHA-256."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """Reads all files of it by their names, the manifest first.

        Raises:
            IntegrityError: It is no archive of plain files with just those that its manifest names.
        """
        try:
            with tarfile.open(fileobj=io.BytesIO(self.data), mode="r:") as tar:
                files = {each.name: _read(tar, each) for each in tar.getmembers()}
            manifest = PackageManifest.model_validate_json(files[PackageManifest.FILE])
        except (tarfile.TarError, ValueError, KeyError, EOFError) as error:
            raise _no_package(self.digest, describe_error(error)) from error
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        del digests[PackageManifest.FILE]
        if digests != {file.path: file.digest for file in manifest.files}:
            raise _no_package(self.digest, "files that its manifest does not name")
        return files

    @property
    def manifest(self) -> PackageManifest:
        """Reads what it holds, and where it was made.

        Raises:
            IntegrityError: It is no archive of plain files with just those that its manifest names.
        """
        return PackageManifest.model_validate_json(self.contents[PackageManifest.FILE])


def make_archive(folder: Path, files: Sequence[Path]) -> Archive:
    """Makes the package of files of a project folder.

    Args:
        folder: The project folder.
        files: Absolute paths of its files, in the order in which they are to be in it.
    """
    contents: dict[str, bytes] = {}
    for path in files:
        try:
            contents[path.relative_to(folder).as_posix()] = path.read_bytes()
        except FileNotFoundError:  # another program's, gone since it was listed
            continue
    commit, dirty = git_state(folder)
    manifest = PackageManifest(
        files=[
            StoredFile(path=name, digest=hashlib.sha256(data).hexdigest(), size=len(data))
            for name, data in contents.items()
        ],
        commit=commit,
        dirty=dirty,
        environment=environment_digest(),
        product=__version__,
    )
    first = {PackageManifest.FILE: manifest.model_dump_json(indent=2).encode()}
    return Archive(write_tar({**first, **contents}))


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Reads a plain file of a tar.

    Raises:
        ValueError: It is something else, or would lie outside the folder that it is unpacked in.
    """
    stream = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if stream is None:
        raise ValueError(f"{member.name!r}, which is no plain file")
    if {"", ".", ".."} & set(member.name.split("/")):
        raise ValueError(f"{member.name!r}, which leads out of its folder")
    return stream.read()


def write_tar(contents: Mapping[str, bytes]) -> bytes:
    """Writes files into a tar: without times, owners and rights, which differ by machine."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def environment_digest() -> str:
    """Computes the digest of the names and versions of all installed distributions."""
    from importlib.metadata import distributions

    return digest_value(sorted({_name_and_version(each) for each in distributions()}))


def _name_and_version(distribution: Distribution) -> str:
    """Gives NAME==VERSION.

    From the first two fields of its metadata, since `importlib.metadata` parses all of them, for
    each of the two again: 0.3 s for a whole environment.
    """
    metadata = distribution.read_text("METADATA") or ""
    name, version = (re.search(rf"^{key}: (\S+)$", metadata, re.M) for key in ("Name", "Version"))
    if name is None or version is None:  # of another layout
        return f"{distribution.name}=={distribution.version}"
    return f"{name[1]}=={version[1]}"


def unpack(archive: Archive, folder: Path) -> None:
    """Unpacks a package into a folder of its own, unless it lies there unchanged.

    Raises:
        IntegrityError: It is no package.
    """
    contents = archive.contents
    if folder.is_dir() and _holds(folder, contents):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:16]}.", dir=folder.parent))
    try:
        for name, data in contents.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o400)  # an edit here would be lost, and settings may hold a password
        _replace(temporary, folder, contents)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, folder: Path, contents: Mapping[str, bytes]) -> None:
    """Gives an unpacked package its name; one of that name that was changed goes."""
    while True:
        try:
            os.rename(temporary, folder)
            return
        except OSError:
            if not folder.is_dir():
                raise
            if _holds(folder, contents):  # another task was faster
                return
            damaged = Path(tempfile.mkdtemp(prefix=".damaged.", dir=folder.parent))
            os.rename(folder, damaged / folder.name)
            shutil.rmtree(damaged)


def _holds(folder: Path, contents: Mapping[str, bytes]) -> bool:
    try:
        return all((folder / name).read_bytes() == data for name, data in contents.items())
    except OSError:
        return False


def _no_package(digest: str, received: str) -> IntegrityError:
    return IntegrityError(
        f"package {digest}",
        "must be an archive that `perennial package` made",
        received,
        "Package the project again, and use that one.",
    )
