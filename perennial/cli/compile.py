"""`perennial compile`: writes a project's pipeline for Kubeflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perennial.cli.arguments import Folder

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]


def compile(folder: Folder, output: Output = Path("pipeline.yaml")) -> None:
    """Write the pipeline that the project's settings ask for, as Kubeflow IR YAML."""
    from components.kubeflow import IMAGE
    from perennial.project import load_project
    from perennial.training.stages import choose_stages, trains_on_workers
    from pipelines.cluster import BACKEND, count_pods
    from pipelines.compile import compile_pipeline

    project = load_project(folder)
    settings = project.settings
    on_workers = trains_on_workers(project)
    stages = choose_stages(project)
    spec = compile_pipeline(output, stages, settings.name, settings.kubeflow, on_workers)
    instances = settings.train.instances
    pods = count_pods(spec, spans=1, instances=instances)
    typer.echo(f"wrote {output}, for Kubeflow Pipelines {BACKEND} or newer")
    typer.echo(
        f"a run with one new span that trains {instances} instance{'s' * (instances != 1)} and "
        f"promotes: {pods} pods"
    )
    image = settings.kubeflow.image or IMAGE
    if "@sha256:" not in image:
        typer.echo(
            f"warning: {image} is named by a tag, so steps of one run may come from different "
            "images. Set kubeflow.image to NAME@sha256:…, as docs/image.md shows.",
            err=True,
        )
