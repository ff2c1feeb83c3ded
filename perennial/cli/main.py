"""The command line. Heavy libraries are imported by the commands that need them, never by `--help`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from perennial.cli.schema import app as schema_app
from perennial.cli.spans import app as spans_app
from perennial.cli.tensorboard import tensorboard
from perennial.cli.versions import compare, explain, history, load_repaired
from perennial.cli.warm import NEEDS_DATA, NEEDS_MODEL, carry_out, run_reporting
from perennial.cli.warm import app as warm_app
from perennial.errors import PerennialError
from perennial.tfx_compat import prepare_process

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Continuous training: from landed labels to a served model.",
)
app.add_typer(schema_app, name="schema")
app.add_typer(spans_app, name="spans")
app.add_typer(warm_app, name="warm")
Folder = Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")]
Why = Annotated[str, typer.Option(help="Why; it is kept in the ledger.")]


@app.command()
def init(folder: Folder) -> None:
    """Write a project to start from; files that exist stay."""
    from perennial.cli.init import init_project

    for path in init_project(folder):
        typer.echo(f"wrote {path}")


@app.command()
def validate(folder: Folder) -> None:
    """Check a project: settings, schema, expectations, module."""
    from perennial.project import load_project

    settings = load_project(folder).settings.runner
    carry_out(settings, (*NEEDS_DATA, "features", "training"), "perennial.cli.main:validate_folder", str(folder))


def validate_folder(folder: str) -> None:
    """The body of `validate`."""
    from perennial.cli.init import validate_project
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    with libraries_log_to(project.state / "validate.log"):
        for line in validate_project(project):
            typer.echo(line)


@app.command()
def run(
    folder: Folder,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train even though nothing new has landed.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Train, and search for hyperparameters anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Run the loop once: validate, train, compare, register, push."""
    from rich.console import Console

    from perennial.cli.run import Asked, run_project, show_result
    from perennial.project import load_project

    # The stream itself, not its name: kfp.local's output is redirected by name while the pipeline runs.
    console = Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
    try:
        project = load_project(folder)
        result = run_project(project, Asked(retrain, tune), console)
    except PerennialError as error:
        if as_json:
            # What stopped the run before it began is told to programs, too.
            typer.echo(json.dumps(_not_begun(str(error))))
        raise
    except KeyboardInterrupt:
        typer.secho("interrupted: run again to go on where it stopped", err=True)
        raise typer.Exit(130) from None
    show_result(result, project, console)
    if as_json:
        typer.echo(result.to_json(project))
    raise typer.Exit(result.exit_code)


@app.command()
def compile(
    folder: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("pipeline.yaml"),
) -> None:
    """Write the pipeline that the project's settings ask for, as Kubeflow IR YAML."""
    from perennial.project import load_project
    from perennial.training.stages import choose_stages
    from pipelines.compile import compile_pipeline

    project = load_project(folder)
    kubeflow = project.settings.kubeflow
    compile_pipeline(output, choose_stages(project), kubeflow.image, kubeflow.project)
    typer.echo(f"wrote {output}")


@app.command()
def status(folder: Folder) -> None:
    """Show the champion and the last runs."""
    from rich.console import Console

    from perennial.cli.status import show_status

    show_status(load_repaired(folder), Console(soft_wrap=True))


@app.command()
def serve(
    folder: Folder,
    port: Annotated[int | None, typer.Option(help="HTTP port; default: serving.port of the settings.")] = None,
) -> None:
    """Serve the champion over HTTP, following the ledger."""
    from perennial.project import load_project
    from serving.server import serve as serve_project

    serve_project(load_project(folder), port)


@app.command()
def predict(
    folder: Folder,
    data: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON Lines file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Parquet file to write; default: DATA.predictions.parquet.")
    ] = None,
) -> None:
    """Score a file with the champion."""
    from perennial.project import load_project

    settings = load_project(folder).settings.runner
    paths = (str(folder), str(data), str(output or data.with_suffix(".predictions.parquet")))
    carry_out(settings, NEEDS_MODEL, "perennial.cli.main:predict_file", *paths)


def predict_file(folder: str, data: str, output: str) -> None:
    """The body of `predict`."""
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    with libraries_log_to(project.state / "predict.log"):
        from components.predict_batch.step import predict_batch

        result = predict_batch(project, Path(data), Path(output))
    typer.echo(f"{result.rows} predictions by version {result.version}: {result.path}")


app.command()(tensorboard)
app.command()(history)
app.command()(explain)
app.command()(compare)


@app.command()
def promote(
    folder: Folder,
    version: Annotated[str | None, typer.Argument(help="Registry version; default: the newest.")] = None,
    why: Why = "a person decided",
) -> None:
    """Make a registered version the champion."""
    from perennial.project import load_project
    from perennial.registry.deployments import promote_version

    deployed = promote_version(load_project(folder), version, why)
    typer.echo(f"version {deployed.version} is the champion now")


@app.command()
def rollback(folder: Folder, why: Why = "a person decided") -> None:
    """Make the version that served before the champion again."""
    from perennial.project import load_project
    from perennial.registry.deployments import roll_back

    deployed = roll_back(load_project(folder), why)
    typer.echo(f"version {deployed.version} is the champion again")


def main() -> None:
    """Entry point: turns errors made for people into one message and their exit code."""
    prepare_process()
    sys.exit(run_reporting(app))


def _not_begun(message: str) -> dict[str, object]:
    empty: dict[str, object] = dict.fromkeys(("version", "champion", "report"))
    return {"outcome": "failed", **empty, "window": [], "new_spans": [], "reasons": [message], "seconds": {}}


if __name__ == "__main__":
    main()
