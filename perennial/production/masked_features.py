"""Checks the features that the prediction log is to mask; imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING

from perennial.errors import ProjectError

if TYPE_CHECKING:
    from perennial.project import Project


def check_masked_features(project: Project, known: Collection[str]) -> None:
    """Checks that the features which the settings mask are some that there are.

    A name with a mistake in it would leave the feature in the log as it is.

    Args:
        project: The project.
        known: Names of the features of its schema.

    Raises:
        ProjectError: One is not known, or the key is dropped, by which labels are joined.
    """
    log, key = project.settings.serving.log, project.settings.data.key
    if key in log.dropped:
        raise ProjectError(
            "project.yaml: serving.log.dropped",
            "must not name data.key, by which labels are joined to the prediction log",
            key,
            "Hash it instead: serving.log.hashed.",
        )
    for setting, names in (("dropped", log.dropped), ("hashed", log.hashed)):
        for name in names:
            if name in known or name == key:
                continue
            near = difflib.get_close_matches(name, list(known), 1)
            raise ProjectError(
                f"project.yaml: serving.log.{setting}",
                f"must name features of schema.pbtxt ({', '.join(known)})",
                name,
                f"Did you mean `{near[0]}`?" if near else "Correct the name, or leave it out.",
            )
