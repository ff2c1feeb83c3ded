"""`perennial validate`: checks a project as far as that goes without training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perennial.cli.arguments import Folder
from perennial.cli.warm_call import NEEDS_DATA, call_warm
from perennial.errors import ProjectError, describe_error

if TYPE_CHECKING:
    from perennial.project import Project


def validate(folder: Folder) -> None:
    """Check a project: settings, schema, expectations, module."""
    from perennial.project import load_project

    settings = load_project(folder).settings.runner
    needs = (*NEEDS_DATA, "features", "training")
    call_warm(settings, needs, "perennial.cli.validate:validate_folder", str(folder))


def validate_folder(folder: str) -> None:
    """Does the work of `perennial validate`, in a process that has the libraries imported."""
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    with libraries_log_to(project.state / "validate.log"):
        for line in validate_project(project):
            typer.echo(line)


def validate_project(project: Project) -> Iterator[str]:
    """Checks a project; gives one line for each thing that is in order.

    Raises:
        ProjectError: There is a mistake; the first one is reported.
    """
    from components.check_examples.expectations import build_expectations
    from perennial.cli.formats import format_bytes
    from perennial.export.saved_model import serving_specs
    from perennial.package.publish import package_files
    from perennial.runner.project_checks import check_project
    from perennial.schema.text import read_schema_text
    from perennial.spans.landed import find_landed

    settings = project.settings
    read_schema_text(project.schema_path)  # where it is missing, the error says how to make one
    check_project(project)
    yield f"project.yaml       {settings.name}: predicts `{settings.label}`"
    files = package_files(project)
    size = format_bytes(sum(file.stat().st_size for file in files))
    yield f"package            {len(files)} file{'s' * (len(files) != 1)}, {size}"
    yield f"schema.pbtxt       {len(project.schema.feature)} features"
    build_expectations(project.expectations)
    yield f"expectations.json  {len(project.expectations)} expectations"
    inputs = read_inputs(project.module().preprocessing_fn, project)
    module = settings.model.module
    yield f"{module:<18} imports; preprocessing_fn reads {', '.join(inputs)}"
    yield f"served features    {', '.join(serving_specs(project.schema))}"
    landed = list(dict.fromkeys(span.name for span in find_landed(project)))
    source = settings.data.spans or "the table"
    newest = f", newest {landed[-1]}" if landed else f" match {source}"
    yield f"landed spans       {len(landed)}{newest}"


def read_inputs(preprocessing: Any, project: Project) -> list[str]:
    """Finds the raw features that `preprocessing_fn` reads, by tracing it without data.

    Raises:
        ProjectError: It cannot be traced; the message names its line.
    """
    import tensorflow_transform as tft
    from tfx_bsl.public import tfxio

    from perennial.user_module import user_line

    record = tfxio.TFExampleBeamRecord(physical_format="none", schema=project.schema)
    specs = record.TensorAdapter().TypeSpecs()
    try:
        return sorted(tft.get_transform_input_columns(preprocessing, specs))
    except Exception as error:  # whatever the user's function raises
        where = f"{user_line(project.module_path, error)}: preprocessing_fn"
        expected = f"must work on the schema's features ({', '.join(specs)})"
        raise ProjectError(where, expected, describe_error(error), "Correct it.") from error
