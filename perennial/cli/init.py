"""`perennial init` and `perennial validate`: starting a project, and checking it before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from perennial.errors import ProjectError, describe_error
from perennial.project import Project
from perennial.runner.project_checks import check_project
from perennial.schema.text import read_schema_text
from perennial.spans.landed import find_landed
from perennial.storage.atomic import publish_text
from perennial.user_module import user_line

TEMPLATE = "perennial.cli.template"
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "README.md")


def init_project(folder: Path) -> list[Path]:
    """Writes the template's files into a folder; gives those written. What exists is left alone.

    Raises:
        ProjectError: Every file is there already, or the path is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ProjectError(str(folder), "must be a folder, or not exist yet", "a file", "Choose another name.")
    missing = [name for name in FILES if not (folder / name).exists()]
    if not missing:
        remedy = "`perennial validate` checks them."
        raise ProjectError(str(folder), "must lack a project's files", "a project that has them all", remedy)
    for name in missing:
        text = resources.files(TEMPLATE).joinpath(f"{name}.txt").read_text(encoding="utf-8")
        publish_text(text, folder / name)
    return [folder / name for name in missing]


def validate_project(project: Project) -> Iterator[str]:
    """Checks a project as far as it goes without training; one line for each thing that is in order.

    Raises:
        ProjectError: The first mistake found.
    """
    from components.check_examples.expectations import build_expectations
    from perennial.export.saved_model import serving_specs

    settings = project.settings
    read_schema_text(project.schema_path)  # says how to make one that is missing
    check_project(project)
    yield f"project.yaml       {settings.name}: predicts `{settings.label}`"
    yield f"schema.pbtxt       {len(project.schema.feature)} features"
    build_expectations(project.expectations)
    yield f"expectations.json  {len(project.expectations)} expectations"
    module = project.module()
    used = read_inputs(module.preprocessing_fn, project)
    yield f"{settings.model.module:<18} imports; preprocessing_fn reads {', '.join(used)}"
    yield f"served features    {', '.join(serving_specs(project.schema))}"
    landed = list(dict.fromkeys(span.name for span in find_landed(project)))
    source = settings.data.spans or "the table"
    yield f"landed spans       {len(landed)}" + (f", newest {landed[-1]}" if landed else f" match {source}")


def read_inputs(preprocessing: Any, project: Project) -> list[str]:
    """The raw features that `preprocessing_fn` reads, found by tracing it without data.

    Raises:
        ProjectError: It cannot be traced; the message names its line.
    """
    import tensorflow_transform as tft
    from tfx_bsl.public import tfxio

    adapter = tfxio.TFExampleBeamRecord(physical_format="none", schema=project.schema).TensorAdapter()
    specs = adapter.TypeSpecs()
    try:
        return sorted(tft.get_transform_input_columns(preprocessing, specs))
    except Exception as error:  # whatever the user's function raises
        where = f"{user_line(project.module_path, error)}: preprocessing_fn"
        expected = f"must work on the schema's features ({', '.join(specs)})"
        raise ProjectError(where, expected, describe_error(error), "Correct it.") from error
