"""`perennial schema`: a first schema from landed spans, and changes that a person reviews."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from perennial.cli.arguments import Folder, Why
from perennial.cli.warm_call import NEEDS_DATA, call_warm

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

    from perennial.project import Project
    from schemas.records import Span

app = typer.Typer(no_args_is_help=True, help="Infer, show and change the schema of a project.")


@app.command()
def infer(
    folder: Folder,
    spans: Annotated[
        list[str] | None,
        typer.Option(
            "--span",
            help="Span to infer from, more than once for several; default: the newest 5.",
        ),
    ] = None,
) -> None:
    """Write schema.pbtxt from what has landed; one that exists stays."""
    settings = _load(folder).settings.runner
    function = "perennial.cli.schema:infer_schema"
    call_warm(settings, NEEDS_DATA, function, str(folder), spans or [])


def infer_schema(folder: str, spans: list[str]) -> None:
    """Does the work of `perennial schema infer`, in a process that has the libraries imported."""
    from rich.console import Console

    from perennial.cli.schema_statistics import choose_spans, measure_anew
    from perennial.cli.schema_views import show_schema
    from perennial.schema.doubts import describe_doubts, describe_label, describe_line_breaks
    from perennial.schema.inference import first_schema
    from perennial.schema.text import schema_text
    from perennial.storage.atomic import publish_text
    from perennial.tasks import weight_features

    project = _load(Path(folder))
    chosen = choose_spans(project, spans)
    settings, weights = project.settings, weight_features(project.tasks)
    with _measuring(project, chosen) as work:
        measured = measure_anew(project, chosen, work)
        schema = first_schema(
            measured.statistics,
            measured.spans,
            measured.columns,
            settings.label,
            settings.data.key,
            weights,
        )
    if project.schema_path.exists():
        _keep_existing(project, schema)
    publish_text(schema_text(schema), project.schema_path)
    show_schema(schema, Console(soft_wrap=False))
    typer.echo(f"wrote {project.schema_path} from {measured.rows} rows")
    _print_unserved(schema, settings.label, settings.data.key, weights)
    _print_set_aside(measured.causes)
    for doubt in (
        *describe_doubts(measured.inferred),
        *describe_label(schema, measured.statistics, settings.label),
        *describe_line_breaks(schema),
    ):
        typer.echo(f"doubt: {doubt}")
    typer.echo(f"next: read it, correct it, then `perennial validate {folder}`")


@app.command()
def show(folder: Folder) -> None:
    """Show what the schema says of each feature."""
    from rich.console import Console

    from perennial.cli.schema_views import show_schema

    project = _load(folder)
    show_schema(project.schema, Console(soft_wrap=False))


@app.command()
def diff(
    folder: Folder,
    span: Annotated[
        str | None,
        typer.Argument(
            metavar="SPAN",
            help="Default: the newest that is quarantined, else the newest.",
        ),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Show the change of the file, too.")] = False,
    required: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE",
            help="Ask for a feature in every row: spans without it leave the window.",
        ),
    ] = None,
    default: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=VALUE", help="Fill a feature in with a value where it is missing."
        ),
    ] = None,
) -> None:
    """Propose a change of the schema that makes a span fit; nothing changes before `accept`."""
    settings = _load(folder).settings.runner
    function = "perennial.cli.schema:propose"
    asked = (required or [], default or [])
    call_warm(settings, NEEDS_DATA, function, str(folder), span, text, *asked)


def propose(
    folder: str, span: str | None, text: bool, required: list[str], default: list[str]
) -> None:
    """Does the work of `perennial schema diff`, in a process that has the libraries imported."""
    from perennial.cli.schema_statistics import choose_span, measure_span
    from perennial.schema.description import describe_changes
    from perennial.schema.diff import (
        Choices,
        find_refusal,
        optional_features,
        propose_schema,
    )
    from perennial.schema.proposal import keep_proposal
    from perennial.schema.text import patch_text, read_schema_text, unified_diff

    project = _load(Path(folder))
    choices = Choices(required, dict(_name_and_value(each) for each in default))
    current, before = read_schema_text(project.schema_path), project.schema
    chosen = choose_span(project, span)
    with _measuring(project, [chosen]) as work:
        measured = measure_span(project, chosen, work)
        after = propose_schema(before, measured.statistics, measured.columns, choices)
        changes = describe_changes(before, after, measured.statistics)
    proposed, comments_stay = patch_text(current, after) if changes else (current, True)
    keep_proposal(project, chosen, current, proposed, changes)
    _print_set_aside(measured.causes)
    if not changes:
        typer.echo(f"span {chosen.name} is as schema.pbtxt says: no change needed")
        return
    typer.echo(f"for span {chosen.name} to be as schema.pbtxt says:")
    for line in changes:
        typer.echo(f"  {line}")
    if text:
        typer.echo(unified_diff(current, proposed, project.schema_path.name))
    if not comments_stay:
        reason = "as several blocks share a line: give each its own to keep them"
        typer.echo(f"its comments would be lost, {reason}")
    for name in optional_features(before, after):
        typer.echo(
            f"`{name}` is optional, as spans before this one do not have it. Instead: "
            f"`--default {name}=VALUE` fills it in; `--required {name}` asks for it in every row, "
            "and the window begins where it exists"
        )
    settings = project.settings
    refusal = find_refusal(after, settings.label, settings.data.key, project.label_types)
    if refusal:
        remedy = "Correct the span and land it again, or change project.yaml"
        typer.echo(f"this cannot be accepted: {refusal}. {remedy}")
    else:
        accepting = f'`perennial schema accept {folder} --why "…"`'
        typer.echo(f"next: {accepting}, or correct the span and land it again")


@app.command()
def accept(folder: Folder, why: Why) -> None:
    """Apply what the last `diff` proposed, and record it in the ledger."""
    from perennial.cli.schema_statistics import span_state
    from perennial.schema.proposal import accept_proposal

    project = _load(folder)
    accepted = accept_proposal(project, why)
    for line in accepted.changes:
        typer.echo(f"  {line}")
    typer.echo("changed schema.pbtxt; the ledger holds who, when and why")
    name, state = accepted.span.name, span_state(project, accepted.span)
    if state == "quarantined":
        again = f'`perennial spans judge {folder} {name} --why "…"`'
        typer.echo(f"next: {again}, then `perennial run {folder}` judges it by the new schema")
    elif state == "new":
        typer.echo(f"next: `perennial run {folder}` judges span {name} by it")
    else:
        typer.echo(f"span {name} is {state} already; spans that land from now on are judged by it")


def _name_and_value(text: str) -> tuple[str, str]:
    """Takes `FEATURE=VALUE` apart."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"must be FEATURE=VALUE. Received: {text}", param_hint="--default")
    return name, value


def _load(folder: Path) -> Project:
    """Loads a project, and finishes an acceptance that was cut short."""
    from perennial.project import load_project
    from perennial.schema.proposal import finish_acceptance

    project = load_project(folder)
    finished = finish_acceptance(project)
    if finished is not None:
        name = finished.span.name
        typer.echo(f"finished: the change of schema.pbtxt that was accepted for span {name}")
    return project


@contextmanager
def _measuring(project: Project, spans: list[Span]) -> Iterator[Path]:
    """Makes a temporary folder to measure in; what libraries print meanwhile goes to a log."""
    from perennial.runner.quiet import libraries_log_to

    names = spans[0].name
    if len(spans) > 1:
        names = f"{len(spans)} spans, {spans[0].name} to {spans[-1].name}"
    typer.echo(f"measuring {names}", err=True)
    project.state.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".schema-", dir=project.state) as work,
        libraries_log_to(project.state / "schema.log"),
    ):
        yield Path(work)


def _keep_existing(project: Project, inferred: Schema) -> NoReturn:
    """Shows how an inferred schema differs from the one that exists, which stays.

    Raises:
        ProjectError: Always.
    """
    from perennial.errors import ProjectError
    from perennial.schema.text import schema_text, unified_diff

    name = project.schema_path.name
    difference = unified_diff(schema_text(project.schema), schema_text(inferred), name, "inferred")
    typer.echo(difference or f"what has landed gives the same schema as {name}")
    raise ProjectError(
        str(project.schema_path),
        "must not exist yet, as a schema changes by review only",
        f"a schema of {len(project.schema.feature)} features; it stays as it is",
        f"`perennial schema diff {project.folder}` proposes changes and `perennial schema accept` "
        "applies them; to begin anew, remove the file.",
    )


def _print_unserved(schema: Schema, label: str, key: str, weights: list[str]) -> None:
    """Prints which features clients will not be asked for, and why."""
    from perennial.schema.environments import is_alive

    optional = [f.name for f in schema.feature if not f.HasField("shape") and is_alive(f)]
    empty = [f.name for f in schema.feature if not is_alive(f)]
    unsent = [f"{label} (the label)", f"{key} (the key)"]
    unsent += [f"{name} (weights examples)" for name in weights]
    typer.echo(f"not asked of clients: {', '.join(unsent)}", nl=not optional)
    if optional:
        typer.echo(f", and for want of a fixed shape: {', '.join(optional)}")
    if empty:
        typer.echo(f"without values, and so only planned: {', '.join(empty)}")


def _print_set_aside(causes: dict[str, int]) -> None:
    for cause, rows in causes.items():
        typer.echo(f"rows set aside: {rows}, as {cause}")
