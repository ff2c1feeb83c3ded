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
    allow_set_aside: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the rows that may be set aside with exit code 0. With more, the others "
            "are scored and written all the same, and the exit code is 3.",
        ),
    ] = 0.0,
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help="Character between the cells of a CSV file, such as ';' or '\\t'; default: "
            "data.delimiter of project.yaml.",
        ),
    ] = None,
) -> None:
    """Score a file with the champion; rows that do not fit the model are set aside."""
    from perennial.project import load_project

    settings = load_project(folder).settings.runner
    chosen = None if delimiter is None else _read_delimiter(delimiter)
    paths = (str(folder), str(data), str(output or data.with_suffix(".predictions.parquet")))
    function = "perennial.cli.predict:predict_file"
    call_warm(settings, NEEDS_MODEL, function, *paths, str(allow_set_aside), chosen)


def predict_file(
    folder: str, data: str, output: str, allow_set_aside: str, delimiter: str | None = None
) -> None:
    """Does the work of `perennial predict`, in a process that has the libraries imported.

    Raises:
        DataError: More rows were set aside than are allowed; the others are written.
    """
    from perennial.errors import DataError
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    with libraries_log_to(project.state / "predict.log"):
        from components.predict_batch.step import predict_batch

        result = predict_batch(project, Path(data), Path(output), delimiter)
    typer.echo(f"{result.rows} predictions by version {result.version}: {result.path}")
    for feature, rows in result.outside.items():
        typer.echo(f"outside the domain of `{feature}` in schema.pbtxt: {rows} rows")
    total = result.rows + result.set_aside
    if result.set_aside:
        typer.echo(f"rows set aside: {result.set_aside} of {total}: {result.set_aside_path}")
    if result.set_aside > float(allow_set_aside) * total:
        raise DataError(
            data,
            f"must have at most {float(allow_set_aside):.2%} of its rows set aside",
            f"{result.set_aside} of {total}, the first {result.first}",
            "Correct them and score them again; --allow-set-aside allows more.",
        )
    if result.set_aside:
        typer.echo(f"the first: {result.first}")


def _read_delimiter(text: str) -> str:
    from schemas.project import read_delimiter

    try:
        return read_delimiter(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}. Received: {text!r}", param_hint="--delimiter") from None
