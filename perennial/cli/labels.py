"""`perennial labels`: what to label next, what came back, and which labels are probably wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import AsJson, Folder

if TYPE_CHECKING:
    from perennial.production.suspect_labels import SuspectLabels

app = typer.Typer(
    no_args_is_help=True, help="Choose what to label, import labels, find those that are wrong."
)
Name = Annotated[str, typer.Argument(metavar="SPAN", help="Name of the span, such as 2026-01-31.")]


@app.command("next")
def next_labels(
    folder: Folder,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .json for Label Studio, or .csv.")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many labels to ask for.")] = 100,
    days: Annotated[float, typer.Option(min=0, help="From how many days of the log.")] = 7.0,
    random: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share that any example may have.")
    ] = 0.2,
    disagreement: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share for examples on which champion and challenger differ."
        ),
    ] = 0.5,
) -> None:
    """Choose logged examples that are worth a label, and write them for the people who label.

    They are drawn: each has a chance, which is recorded and never 0, so that the same labels train
    the next model and give an unbiased metric (`perennial labels metric`). More likely are examples
    on which a test's challenger differs from the champion, and those the champion is unsure of;
    near-duplicates are drawn once. The rest of the shares is for what the champion is unsure of.
    """
    from perennial.cli.warm_call import NEEDS_MODEL, call_warm
    from perennial.project import load_project

    if random + disagreement > 1:
        raise typer.BadParameter("--random and --disagreement must be at most 1 together")
    settings = load_project(folder).settings.runner
    shares = [str(random), str(disagreement)]
    function = "perennial.cli.labels:write_next"
    call_warm(settings, NEEDS_MODEL, function, str(folder), str(output), count, str(days), shares)


def write_next(folder: str, output: str, count: int, days: str, shares: list[str]) -> None:
    """Does the work of `perennial labels next`, where the libraries are imported."""
    from perennial.production.label_files import check_output, write_tasks
    from perennial.production.label_queue import QueueShares
    from perennial.production.queued_labels import choose_labels
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project, path = load_project(Path(folder)), Path(output)
    check_output(path)
    since = datetime.now(UTC) - timedelta(days=float(days))
    with libraries_log_to(project.state / "labels.log"):
        queue = choose_labels(project, count, since, QueueShares(*map(float, shares)))
        write_tasks(project, queue, path)
    versions = " and ".join(queue.made.versions)
    typer.echo(
        f"{queue.made.examples} examples to label, of {queue.made.population:,} in the log, by "
        f"version{'s' * (len(queue.made.versions) > 1)} {versions}: {path}"
    )
    typer.echo(f"queue {queue.name}: `perennial labels import` takes what comes back")


@app.command("import")
def import_(
    folder: Folder,
    answers: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Label Studio's export, or the CSV."),
    ],
    span: Annotated[str, typer.Option(help="Name of the span to land, such as 2026-01-31.")],
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="COLUMN=VALUE", help="A column that the log does not hold, for all."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; default: by data.spans.")
    ] = None,
) -> None:
    """Land the labels that came back as a span: features of the log, key and label."""
    from perennial.ledger.events import Ledger
    from perennial.production.label_files import import_labels, span_path
    from perennial.production.queued_labels import read_queues
    from perennial.project import load_project

    project = load_project(folder)
    ledger = Ledger(project.ledger_url)
    queues = list(read_queues(project, ledger))
    ledger.close()
    path = output or span_path(project, span)
    done = import_labels(project, queues, answers, path, dict(map(_split, values or [])))
    typer.echo(f"{done.rows} labels landed as span {span}: {done.path}")
    if done.unlabelled:
        typer.echo(f"without a label: {done.unlabelled}")
    if done.unknown:
        shown = ", ".join(done.unknown[:3]) + (", …" if len(done.unknown) > 3 else "")
        typer.echo(f"in no queue, left out: {len(done.unknown)} ({shown})")


@app.command()
def metric(folder: Folder, as_json: AsJson = False) -> None:
    """Show what the labels of each queue say about all examples that it was drawn from."""
    from perennial.errors import NotComparedError
    from perennial.ledger.events import Ledger
    from perennial.production.queued_labels import measure_queue, read_queues
    from perennial.project import load_project

    project = load_project(folder)
    ledger = Ledger(project.ledger_url)
    queues = list(read_queues(project, ledger))
    ledger.close()
    measured = []
    for queue in queues:
        try:
            measured.append(measure_queue(project, queue))
        except NotComparedError as error:
            typer.echo(f"not measured: {error}", err=as_json)
    if as_json:
        typer.echo(
            json.dumps(
                [asdict(each) | {"value": each.value._asdict()} for each in measured], indent=2
            )
        )
        return
    for each in measured:
        typer.echo(
            f"queue {each.queue}: {each.metric} {each.value.value:.4f} ({each.value.low:.4f} to "
            f"{each.value.high:.4f}) of {each.population:,} examples, by {each.labelled} labels of "
            f"the {each.examples} asked for"
        )
    if not queues:
        typer.echo("no labels were asked for: `perennial labels next` does")


@app.command()
def suspect(
    folder: Folder,
    span: Name,
    task: Annotated[
        str | None, typer.Option(help="A task with classes; default: the first.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many to show, the worst first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the examples of a span whose label is probably wrong, the worst first.

    A model version that was not trained on the span is asked; where there is none, the newest
    version is asked about the span's test split only.
    """
    from perennial.cli.warm_call import NEEDS_MODEL, call_warm
    from perennial.project import load_project

    settings = load_project(folder).settings.runner
    form = "json" if as_json else "lines"
    function = "perennial.cli.labels:show_suspects"
    call_warm(settings, NEEDS_MODEL, function, str(folder), span, task, count, form)


def show_suspects(folder: str, span: str, task: str | None, count: int, form: str) -> None:
    """Does the work of `perennial labels suspect`, where the libraries are imported."""
    from perennial.production.suspect_labels import find_suspects
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    with libraries_log_to(project.state / "labels.log"):
        found = find_suspects(project, span, task)
    if form == "json":
        shown = {**asdict(found), "suspects": [asdict(each) for each in found.suspects[:count]]}
        typer.echo(json.dumps(shown | {"found": len(found.suspects)}, indent=2))
        return
    typer.echo(describe(found))
    for each in found.suspects[:count]:
        typer.echo(
            f"{each.key}  labelled {each.given} ({each.chance_given:.1%}), "
            f"likelier {each.likelier} ({each.chance_likelier:.1%})"
        )
    if len(found.suspects) > count:
        typer.echo(f"and {len(found.suspects) - count} more: --count shows them")


def _split(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise typer.BadParameter(f"must be COLUMN=VALUE. Received: {text}", param_hint="--set")
    return name, value


def describe(found: SuspectLabels) -> str:
    """Says in a line what was looked at and how much was found."""
    asked = f"version {found.version}"
    looked = f"{found.examples:,} examples of span {found.span}"
    if len(found.splits) == 1:
        looked = f"{found.examples:,} test examples of span {found.span}"
        asked += ", which was trained on the others, as every version was"
    return f"{len(found.suspects)} labels are probably wrong, of {looked}, by {asked}"
