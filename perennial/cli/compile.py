"""`perennial compile`: writes a project's pipeline for Kubeflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perennial.cli.arguments import Folder

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]


def compile(folder: Folder, output: Output = Path("pipeline.yaml")) -> None:
    """Write the pipeline that the project's settings ask for, as Kubeflow IR YAML."""
    from perennial.project import load_project
    from perennial.training.stages import choose_stages
    from pipelines.compile import compile_pipeline

    project = load_project(folder)
    kubeflow = project.settings.kubeflow
    compile_pipeline(output, choose_stages(project), kubeflow.image, kubeflow.project)
    typer.echo(f"wrote {output}")
