"""Makes the package of a project folder, and stores it in the root."""

from __future__ import annotations

from dataclasses import dataclass

from perennial.package.archive import make_archive
from perennial.package.contents import Contents, choose_files
from perennial.package.store import PackageReference, package_name
from perennial.project import Project
from perennial.storage.objects import open_objects
from schemas.records import PackageManifest


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
            does not lie in it.
        StoreError: The root cannot be written.
    """
    contents = project.contents or Contents.of_settings(project.folder, project.settings)
    archive = make_archive(project.folder, choose_files(contents, project.required_files))
    open_objects(project.root).write_once(package_name(archive.digest), archive.data)
    reference = PackageReference(root=project.root, digest=archive.digest, folder=project.folder)
    return Package(reference, archive.manifest)
