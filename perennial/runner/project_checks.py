"""Checks of a whole project that need neither data nor heavy libraries."""

from __future__ import annotations

from components.check_examples.broken_rules import check_bounds
from perennial.project import Project
from perennial.project_checks import check_definition
from perennial.readers.columns import columns_of


def check_project(project: Project) -> None:
    """Checks everything about a project that needs neither data nor heavy libraries.

    Raises:
        ProjectError: There is a mistake; the first one is reported.
    """
    check_definition(project)
    check_bounds(project.expectations, columns_of(project.schema))
