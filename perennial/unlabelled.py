"""Files with examples that nobody has labelled yet: which there are, and whether they are those of the last run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perennial.digests import digest_value
from perennial.errors import DataError
from perennial.files import is_url, list_files
from perennial.fingerprints import Fingerprints

if TYPE_CHECKING:
    from perennial.project import Project

MEMO_FILE = "unlabelled.json"
_TOKEN = re.compile(r"\{[^{}]*\}")  # such as {YYYY}, as in data.spans


def find_files(project: Project, pattern: str) -> list[str]:
    """The files that a pattern of the settings names, in the order of their names; none is no fault.

    Args:
        project: Relative patterns begin in its folder.
        pattern: Path or URL; `*` and what stands in braces mean anything within one folder.

    Raises:
        DataError: The place cannot be looked into.
    """
    return list_files(_location(project, pattern))


def unlabelled_fingerprint(project: Project) -> str:
    """Changes whenever the files of `data.unlabelled` do; empty where pretraining would not read them.

    A file that cannot be read is no fault here: pretraining tells of it, and what it tells is part of the fingerprint.
    """
    pattern = project.settings.data.unlabelled
    if pattern is None or project.settings.pretext.task == "none":
        return ""
    try:
        files = find_files(project, pattern)
    except DataError as error:
        return digest_value(str(error))
    with Fingerprints(project.state / MEMO_FILE) as fingerprints:
        return digest_value([[file, _fingerprint(fingerprints, file)] for file in files])


def _fingerprint(fingerprints: Fingerprints, file: str) -> str:
    try:
        return fingerprints.of(file, [file])
    except DataError as error:
        return str(error)


def _location(project: Project, pattern: str) -> str:
    named = _TOKEN.sub("*", pattern.removeprefix("file://"))
    return named if is_url(named) else str(project.folder / named)
