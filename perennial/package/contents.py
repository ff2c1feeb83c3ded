"""Chooses the files of a project folder that a package holds: what a run reads, and no secrets."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import ProjectError
from perennial.storage.files import is_url
from schemas.project import ProjectSettings

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".perennialignore"
# Every task of a run on a cluster reads its package anew: this much takes it about a second at
# 1 Gbit/s. Weights that a module starts from fit in; landed data does not belong there.
LARGEST = 100 * 2**20
_LARGEST_NAMED = 3

_TOKEN = re.compile(r"\{[^{}]*\}")  # such as {YYYY}, as in data.spans
# Made by tools, not by people; environments have a file of their own that tells them.
_LEFT_OUT = ("__pycache__", "node_modules", "*.pyc", "*.pyo", "*~", "*.egg-info")
_LEFT_OUT_HIDDEN = (
    *(".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".idea", ".vscode", ".DS_Store"),
    *(".ipynb_checkpoints", ".*_cache", ".cache", ".*.sw?", ".#*", ".nfs*"),
)
_ENVIRONMENT_FILE = "pyvenv.cfg"
_SQLITE_COMPANIONS = ("", "-wal", "-shm", "-journal")
# Names that hold keys or passwords by convention, in lower case.
_SECRETS = (
    *(".env", ".env.*", "*.env", ".netrc", ".pgpass", ".pypirc", ".git-credentials", ".htpasswd"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.keystore", "*.kdbx"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "kubeconfig", "*.kubeconfig"),
    *("credentials", "credentials.*", "*_credentials.json", "*-credentials.json"),
    *("client_secret*.json", "*service_account*.json", "*service-account*.json"),
    *("*serviceaccount*.json", "secret.*", "secrets.*", "*.secret", "*.secrets"),
)
_EXAMPLES = ("*.example", "*.sample", "*.template", "*.py")  # of such files, and code


@dataclass(frozen=True)
class Contents:
    """Decides which files of a project folder a package holds.

    Attributes:
        folder: The project folder.
        landed: Patterns of landed data, absolute.
        places: Files and folders of this machine that runs write: state, root, databases.
    """

    folder: Path
    landed: tuple[str, ...] = ()
    places: tuple[Path, ...] = ()

    @classmethod
    def of_settings(cls, folder: Path, settings: ProjectSettings) -> Contents:
        """Makes it for a project folder by its settings."""
        data = settings.data
        patterns = (data.spans, data.unlabelled, data.serving_log)
        landed = [_absolute(folder, pattern) for pattern in patterns if pattern]
        places = [folder / settings.state]
        if settings.root is not None and not is_url(settings.root):
            places.append(folder / settings.root)
        urls = [settings.ledger.url, settings.registry.uri]
        urls.append(data.table.url if data.table is not None else None)
        places += [file for url in urls if url for file in _sqlite_files(url)]
        normal = tuple(Path(os.path.normpath(place)) for place in places)
        return cls(folder, tuple(path for path in landed if path is not None), normal)

    def holds(self, path: Path) -> bool:
        """Tells whether a file of the folder, by its absolute path, may be in a package."""
        return self._enters(path.parent) and not self._leaves_file(path)

    def files(self, below: Path | None = None) -> Iterator[Path]:
        """Lists the files that may be in a package, in no order; links to folders are followed."""
        seen: set[str] = set()
        start = self.folder if below is None else below
        if not self._enters(start):
            return
        for place, folders, files in os.walk(start, followlinks=True):
            real = os.path.realpath(place)
            if real in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in folders if not self._leaves_folder(Path(place, name))]
            yield from (path for name in files if not self._leaves_file(path := Path(place, name)))

    @cached_property
    def _ignored(self) -> GitIgnoreSpec | None:
        try:
            text = (self.folder / IGNORE_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        from pathspec import GitIgnoreSpec

        return GitIgnoreSpec.from_lines(text.splitlines())

    @cached_property
    def _landed(self) -> re.Pattern[str] | None:
        """Matches landed data, and hidden files beside it, which are still being written."""
        if not self.landed:
            return None
        beside = [os.path.dirname(pattern) for pattern in self.landed]
        parts = [_expression(pattern) for pattern in self.landed]
        parts += [rf"{_expression(each)}/\.[^/]*" for each in beside if each != str(self.folder)]
        return re.compile("|".join(parts), re.DOTALL)

    def _enters(self, folder: Path) -> bool:
        """Tells whether anything below a folder may belong in."""
        parts = folder.relative_to(self.folder).parts
        around = [self.folder.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
        return not any(map(self._leaves_folder, around))

    def _leaves_folder(self, path: Path) -> bool:
        """Tells whether nothing below a folder belongs in."""
        return (
            self._is_by_product(path)
            or (path / _ENVIRONMENT_FILE).is_file()
            or self._is_ignored(path, "/")
        )

    def _leaves_file(self, path: Path) -> bool:
        return (
            self._is_by_product(path)
            or not path.is_file()  # a socket, or a link to nothing
            or (self._landed is not None and self._landed.fullmatch(str(path)) is not None)
            or self._is_ignored(path)
        )

    def _is_by_product(self, path: Path) -> bool:
        patterns = _LEFT_OUT_HIDDEN if path.name.startswith(".") else _LEFT_OUT
        return path in self.places or _matches(path.name, patterns)

    def _is_ignored(self, path: Path, end: str = "") -> bool:
        if self._ignored is None:
            return False
        return self._ignored.match_file(path.relative_to(self.folder).as_posix() + end)


def choose_files(contents: Contents, required: Sequence[Path]) -> list[Path]:
    """Chooses the files of a package, by their absolute paths in the order of their names.

    Args:
        contents: Which files may be in it.
        required: Files that a run cannot do without, whatever `.perennialignore` says.

    Raises:
        ProjectError: A required file does not lie in the folder, a file holds a secret by its name,
            or the files are too large.
    """
    folder = contents.folder
    for path in required:
        if not path.is_relative_to(folder) or ".." in path.parts:
            raise ProjectError(
                str(path),
                "must lie in the project folder, which runs read from one package",
                f"the project folder {folder}",
                "Move it there.",
            )
    chosen = {*contents.files(), *required}
    _refuse_secrets(folder, chosen)
    _refuse_size(folder, chosen)
    return sorted(chosen, key=lambda path: path.relative_to(folder).as_posix())


def _refuse_secrets(folder: Path, files: set[Path]) -> None:
    secrets = [path for path in files if _is_secret(path.name) or _is_secret(path.resolve().name)]
    if secrets:
        names = sorted(path.relative_to(folder).as_posix() for path in secrets)
        raise ProjectError(
            f"{folder.name}: {', '.join(names)}",
            "must not be in the project's package, which lies in the root for every machine that "
            "runs a step: files of this name hold secrets",
            f"{len(names)} file{'s' * (len(names) > 1)} of such a name",
            f"Move {'them' if len(names) > 1 else 'it'} out of the folder, or add a line to "
            f"{IGNORE_FILE}; steps get credentials from environment variables.",
        )


def _is_secret(name: str) -> bool:
    return _matches(name.lower(), _SECRETS) and not _matches(name.lower(), _EXAMPLES)


def _refuse_size(folder: Path, files: set[Path]) -> None:
    sizes = {path: path.stat().st_size for path in files if path.exists()}
    total = sum(sizes.values())
    if total > LARGEST:
        largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:_LARGEST_NAMED]
        described = ", ".join(
            f"{path.relative_to(folder).as_posix()} ({_megabytes(sizes[path])})" for path in largest
        )
        raise ProjectError(
            f"package of {folder.name}",
            f"must have at most {_megabytes(LARGEST)}, as every step reads it",
            f"{_megabytes(total)}; the largest: {described}",
            f"Name files that no step reads in {IGNORE_FILE}, in the form of .gitignore.",
        )


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _absolute(folder: Path, pattern: str) -> str | None:
    """Gives a pattern of landed data as a path; None where it is not on this machine."""
    path = pattern.removeprefix("file://")
    return None if is_url(path) else os.path.normpath(os.path.join(folder, path))


def _expression(pattern: str) -> str:
    """Gives the regular expression of a pattern, as `perennial.storage.files` reads one."""
    return "[^/]*".join(map(re.escape, _TOKEN.sub("*", pattern).split("*")))


def _sqlite_files(url: str) -> list[Path]:
    """Lists the files of a database of SQLite; of any other none."""
    scheme, separator, path = url.partition(":///")
    if not separator or not scheme.startswith("sqlite"):
        return []
    file = os.path.abspath(path.partition("?")[0])
    return [Path(f"{file}{companion}") for companion in _SQLITE_COMPANIONS]
