"""Packages in the root, and references to them: what a run is given in place of a folder.

packages/<SHA-256>.tar      below the project's root
s3://bucket/models/digits/packages/<SHA-256>.tar            a reference, for any machine
/projects/digits/.perennial/packages/<SHA-256>.tar#/projects/digits      on one with the folder
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from perennial.errors import LostError, ProjectError
from perennial.package.archive import Archive, unpack
from perennial.storage.digests import digest_value
from perennial.storage.objects import open_objects
from schemas.records import Record

PACKAGES = "packages"
UNPACKED = "unpacked"
_REFERENCE = re.compile(
    rf"(?P<root>.+)/{PACKAGES}/(?P<digest>[0-9a-f]{{64}})\.tar(?:#(?P<folder>/.+))?"
)


class PackageReference(Record):
    """Names a package: the project's root, its digest, and the folder that it was made of.

    In the folder lie the project's state and its landed data; None: there is none on this machine.
    """

    root: str
    digest: str
    folder: Path | None = None

    @property
    def anywhere(self) -> PackageReference:
        """Gives the reference for a machine that has no project folder."""
        return self.model_copy(update={"folder": None})

    def __str__(self) -> str:
        uri = f"{self.root}/{package_name(self.digest)}"
        return uri if self.folder is None else f"{uri}#{self.folder}"


class OpenPackage(Record):
    """A package that a task reads: its files lie in `folder`, which nobody changes."""

    reference: PackageReference
    folder: Path
    commit: str | None


def package_name(digest: str) -> str:
    """Gives the name of a package in the root."""
    return f"{PACKAGES}/{digest}.tar"


def parse_reference(text: str) -> PackageReference | None:
    """Parses a reference; None where the text is none, such as that of a folder."""
    match = _REFERENCE.fullmatch(text)
    return PackageReference.model_validate(match.groupdict()) if match is not None else None


def fetch_archive(reference: PackageReference) -> Archive:
    """Reads a package from the root, and checks that it is the one that was stored.

    Raises:
        LostError: It is not there, or has other bytes: it is removed then, as its next run stores
            it anew.
        StoreError: The root cannot be read.
    """
    objects, name = open_objects(reference.root), package_name(reference.digest)
    objects.assume_answered()  # when the package was stored
    data = objects.read(name)
    archive = Archive(data) if data is not None else None
    if archive is not None and archive.digest == reference.digest:
        return archive
    if archive is not None:
        objects.delete(name)
    raise LostError(
        f"root {objects.location}: {name}",
        "must hold the package of the run",
        "other bytes" if archive is not None else "no such object",
        "Run `perennial package PROJECT` or `perennial run PROJECT`, which stores it anew.",
    )


def open_package(reference: PackageReference, archive: Archive, state: Path) -> OpenPackage:
    """Unpacks a package below a project's state folder, once.

    Raises:
        IntegrityError: It is no package.
    """
    folder = state / UNPACKED / reference.digest
    unpack(archive, folder)
    return OpenPackage(reference=reference, folder=folder, commit=archive.manifest.commit)


def remove_unpacked(name: str, state: Path) -> None:
    """Removes what this machine unpacked of a package, by its name in the root."""
    shutil.rmtree(state / UNPACKED / Path(name).stem, ignore_errors=True)


def scratch_folder(root: str) -> Path:
    """Makes the folder that stands for the project folder where there is none.

    What lies in it may vanish. As code is loaded from it, it must be this account's alone.

    Raises:
        ProjectError: It is another account's.
    """
    own = Path(tempfile.gettempdir(), f"perennial-{os.getuid()}")
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = own.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not private or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ProjectError(
            str(own),
            "must be a folder that only this account writes to",
            "another account's" if not private else "one that others may write to",
            "Remove it, or name another temporary folder in TMPDIR.",
        )
    folder = own / digest_value(root)[:16]
    folder.mkdir(exist_ok=True)
    return folder
