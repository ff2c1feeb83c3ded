"""Makes the package of a project folder, and stores it in the root."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from perennial.errors import ProjectError
from perennial.package.archive import make_archive
from perennial.package.contents import Contents, choose_files
from perennial.package.store import PackageReference, package_name
from perennial.project import Project, read_text
from perennial.settings import SETTINGS_FILE
from perennial.storage.files import is_url, shown_uri
from perennial.storage.objects import open_objects
from schemas.records import PackageManifest

_PASSWORD = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


@dataclass(frozen=True)
class Package:
    """A package in the root: what it holds, and how a run names it."""

    reference: PackageReference
    manifest: PackageManifest

    @property
    def size(self) -> int:
        """Sums the bytes of its files."""
        return sum(file.size for file in self.manifest.files)


def publish_package(project: Project) -> Package:
    """Stores the package of a project folder in the root, once for what it holds.

    Raises:
        ProjectError: The folder holds a secret, by the name of a file, or too much; or the module
            does not lie in it; or its settings hold a password that would leave this machine.
        StoreError: The root cannot be written.
    """
    archive = make_archive(project.folder, package_files(project))
    open_objects(project.root).write_once(package_name(archive.digest), archive.data, private=True)
    reference = PackageReference(root=project.root, digest=archive.digest, folder=project.folder)
    return Package(reference, archive.manifest)


def package_files(project: Project) -> list[Path]:
    """Chooses the files of a project folder's package, by their absolute paths.

    Raises:
        ProjectError: As `publish_package` does.
    """
    contents = project.contents or Contents.of_settings(project.folder, project.settings)
    files = choose_files(contents, project.required_files)
    if is_url(project.root):
        _refuse_passwords(project)
    return files


def _refuse_passwords(project: Project) -> None:
    lines = read_text(project.folder / SETTINGS_FILE).splitlines()
    numbers = [str(number) for number, line in enumerate(lines, 1) if _PASSWORD.search(line)]
    if numbers:
        raise ProjectError(
            SETTINGS_FILE,
            f"must hold no password, as its package goes to {shown_uri(project.root)}",
            f"a URL with one in line {', '.join(numbers)}",
            "Take the URL out and set PERENNIAL_LEDGER_URL, PERENNIAL_REGISTRY_URI or "
            "PERENNIAL_TABLE_URL, on each machine that runs steps.",
        )
