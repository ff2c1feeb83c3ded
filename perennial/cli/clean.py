"""`perennial clean`: removes results from the root that nothing needs any more."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perennial.project import Project
    from perennial.registry.unserved import UnservedModel
    from perennial.results.retention import Removal
    from perennial.results.store import Results
    from schemas.records import Span

DAYS = 30


def clean(
    folder: Folder,
    days: Annotated[
        int, typer.Option(min=1, help="What is older than so many days is removed.")
    ] = DAYS,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without it, say what would be removed.")
    ] = False,
) -> None:
    """Remove what nothing needs any more: results of steps, and models that never served."""
    from datetime import UTC, datetime, timedelta

    from perennial.ledger.events import Ledger
    from perennial.package.store import remove_unpacked
    from perennial.project import load_project
    from perennial.registry.unserved import find_unserved, remove_unserved
    from perennial.results.store import Results
    from perennial.runner.project_run import hold_project, new_run_name

    project = load_project(folder)
    ledger = Ledger(project.ledger_url)
    with hold_project(project, f"clean-{new_run_name()}") if yes else nullcontext() as lease:
        results = Results(project.root, project.state)
        removal = _plan(project, results, days)
        models = find_unserved(project, ledger, datetime.now(UTC) - timedelta(days=days))
        if lease is not None:
            for listed in removal.all:
                lease.check()
                results.objects.delete(listed.name)
            for listed in removal.packages:
                remove_unpacked(listed.name, project.state)
            removed = []
            for model in models:
                lease.check()
                if remove_unserved(project, ledger, model):
                    removed.append(model)
            models = removed
        typer.echo(_describe(removal, results.objects.location, days, yes))
        typer.echo(_describe_models(models, days, yes))
        if not yes:
            typer.echo("nothing was removed: say --yes to do it")


def window_of(project: Project) -> list[Span]:
    """Lists the spans that the next run would train on."""
    from components.select_spans.step import find_window
    from perennial.ledger.events import Ledger

    return find_window(project, Ledger(project.ledger_url).judged_spans()).spans


def _plan(project: Project, results: Results, days: int) -> Removal:
    from dataclasses import replace
    from datetime import UTC, datetime, timedelta

    from perennial.ledger.events import Ledger
    from perennial.package.store import PACKAGES
    from perennial.results.retention import (
        choose_packages,
        needed_packages,
        newest_accumulators,
        plan_removal,
    )
    from perennial.results.unfinished import UNFINISHED

    now, age = datetime.now(UTC), timedelta(days=days)
    window, there = window_of(project), results.all()
    removal = plan_removal(
        there,
        results.objects.list("objects"),
        list(results.objects.list(UNFINISHED)),
        {
            *_needed(project, results, window),
            *newest_accumulators(there, {span.name for span in window}),
        },
        now,
        age,
    )
    needed = needed_packages(Ledger(project.ledger_url), now, age)
    packages = choose_packages(results.objects.list(PACKAGES), needed, now, age)
    return replace(removal, packages=packages)


def _needed(project: Project, results: Results, window: list[Span]) -> Iterator[str]:
    """Names the results that the next run reads: what became of the window's spans."""
    from perennial.results.store import result_name
    from perennial.spans.prepared import PreparedSpans

    prepared = PreparedSpans.of_project(results, project)
    return (result_name(step, key) for step, key in prepared.results_of(window))


def _describe(removal: Removal, location: str, days: int, done: bool) -> str:
    from perennial.cli.formats import format_bytes

    results, objects, packages = map(len, (removal.results, removal.objects, removal.packages))
    works = removal.works
    return (
        f"{'removed' if done else 'would remove'} {results} result{'s' * (results != 1)} older "
        f"than {days} days, {objects} object{'s' * (objects != 1)} that no result names, "
        f"{works} piece{'s' * (works != 1)} of unfinished work and "
        f"{packages} package{'s' * (packages != 1)} that no run needs, "
        f"{format_bytes(removal.size)} in all, from {location}; {removal.kept} results stay"
    )


def _describe_models(models: list[UnservedModel], days: int, done: bool) -> str:
    from perennial.cli.formats import format_bytes

    numbers = [model.version.version for model in models if model.version is not None]
    versions = f" (version{'s' * (len(numbers) != 1)} {', '.join(numbers)})" if numbers else ""
    return (
        f"{'removed' if done else 'would remove'} {len(models)} model{'s' * (len(models) != 1)} "
        f"older than {days} days that never served{versions}, "
        f"{format_bytes(sum(model.size for model in models))} in all, from the registry"
    )
