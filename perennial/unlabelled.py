"""Files with examples that nobody has labelled yet: which there are, and whether they are those of the last run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perennial.digests import digest_value
from perennial.errors import DataError
from perennial.files import find_files
from perennial.fingerprints import Fingerprints

if TYPE_CHECKING:
    from perennial.project import Project

MEMO_FILE = "unlabelled.json"


def unlabelled_fingerprint(project: Project) -> str:
    """Changes whenever the files of `data.unlabelled` do; empty where pretraining would not read them.

    A file that cannot be read is no fault here: pretraining tells of it, and what it tells is part of the fingerprint.
    """
    pattern = project.settings.data.unlabelled
    if pattern is None or project.settings.pretext.task == "none":
        return ""
    try:
        files = find_files(project.folder, pattern)
    except DataError as error:
        return digest_value(str(error))
    with Fingerprints(project.state / MEMO_FILE) as fingerprints:
        return digest_value([[file, _fingerprint(fingerprints, file)] for file in files])


def _fingerprint(fingerprints: Fingerprints, file: str) -> str:
    try:
        return fingerprints.of(file, [file])
    except DataError as error:
        return str(error)
