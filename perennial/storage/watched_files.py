"""Files that a run reads beside its spans, and whether they changed since the last run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perennial.errors import DataError
from perennial.storage.digests import digest_value
from perennial.storage.files import find_files
from perennial.storage.fingerprints import Fingerprints, memo_in

if TYPE_CHECKING:
    from perennial.project import Project

UNLABELLED_MEMO = "unlabelled"
SERVED_MEMO = "served"


def unlabelled_fingerprint(project: Project) -> str:
    """Fingerprints the files of `data.unlabelled`; empty without pretraining."""
    if project.settings.pretext.task == "none":
        return ""
    return _fingerprint(project, project.settings.data.unlabelled, UNLABELLED_MEMO)


def served_fingerprint(project: Project) -> str:
    """Fingerprints the files of `data.serving_log`; empty if evaluation does not read them."""
    if project.settings.evaluate.serving == "none":
        return ""
    return _fingerprint(project, project.settings.data.serving_log, SERVED_MEMO)


def _fingerprint(project: Project, pattern: str | None, memo: str) -> str:
    """Fingerprints the files of a pattern; empty without one.

    A file that cannot be read is no fault here: the step that reads it tells of it, and what it
    tells is part of the fingerprint.
    """
    if pattern is None:
        return ""
    try:
        files = find_files(project.folder, pattern)
    except DataError as error:
        return digest_value(str(error))
    with Fingerprints(memo_in(project.root, memo)) as fingerprints:
        return digest_value([[file, _of_file(fingerprints, file)] for file in files])


def _of_file(fingerprints: Fingerprints, file: str) -> str:
    try:
        return fingerprints.of(file, [file])
    except DataError as error:
        return str(error)
