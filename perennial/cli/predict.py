"""`perennial predict`: scores a file with the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perennial.cli.arguments import Folder
from perennial.cli.warm_call import NEEDS_MODEL, call_warm

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Parquet file to write; default: DATA.predictions.parquet.",
    ),
]


def predict(
    folder: Folder,
    data: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON Lines file.")],
    output: Output = None,
) -> None:
    """Score a file with the champion."""
    from perennial.project import load_project

    settings = load_project(folder).settings.runner
    paths = (str(folder), str(data), str(output or data.with_suffix(".predictions.parquet")))
    call_warm(settings, NEEDS_MODEL, "perennial.cli.predict:predict_file", *paths)


def predict_file(folder: str, data: str, output: str) -> None:
    """Does the work of `perennial predict`, in a process that has the libraries imported."""
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    with libraries_log_to(project.state / "predict.log"):
        from components.predict_batch.step import predict_batch

        result = predict_batch(project, Path(data), Path(output))
    typer.echo(f"{result.rows} predictions by version {result.version}: {result.path}")
