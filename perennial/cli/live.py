"""`perennial live`: how the arms do in production, day by day, once labels have come."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import AsJson, Folder
from perennial.cli.formats import plain_console

if TYPE_CHECKING:
    from perennial.production.live_metrics import LiveDay, LiveMetrics

DAYS = 14


def live(
    folder: Folder,
    days: Annotated[int, typer.Option(min=1, help="How many days to show, with today.")] = DAYS,
    as_json: AsJson = False,
) -> None:
    """Show how the arms do in production: requests, labels that came, and metrics by day."""
    from datetime import UTC, datetime, timedelta

    from perennial.errors import NotComparedError
    from perennial.production.labels import (
        read_labelled,
        read_requests,
        read_scored,
        without_labels,
    )
    from perennial.production.live_metrics import as_json as to_json
    from perennial.production.live_metrics import measure_live
    from perennial.project import load_project

    project = load_project(folder)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=days - 1)
    try:
        labelled = read_labelled(project, since)
    except NotComparedError as error:
        labelled = without_labels(project.tasks[0], str(error))
    requests = read_requests(project, since)
    scored = read_scored(project, since)
    metric = project.settings.gate.metric
    measured = measure_live(requests, labelled, scored, metric, today.date())
    if as_json:
        typer.echo(json.dumps(to_json(measured), indent=2))
    else:
        show(measured)


def show(live: LiveMetrics) -> None:
    """Prints the days as a table, and what holds for all of them."""
    from rich.table import Table

    from perennial.tasks import metric_words

    console = plain_console(soft_wrap=False)
    if not live.days:
        console.print("the prediction log holds no rows of these days", highlight=False)
        return
    headings = ["day", "arm", "version", "predictions", "labels", metric_words(live.metric)]
    estimated = live.estimator is not None and live.estimator.used
    table = Table(*headings, *(["accuracy by scores"] if estimated else []), "", box=None)
    for day in live.days:
        table.add_row(
            day.day.isoformat(),
            day.arm,
            ", ".join(day.versions),
            str(day.predictions),
            _coverage(day),
            _value(day),
            *([_estimate(day)] if estimated else []),
            day.remark or "",
        )
    console.print(table, highlight=False, markup=False)
    median, most = live.delay
    if math.isfinite(median):
        line = f"labels come after {median:.1f} days (median), 90% of them within {most:.1f}"
        console.print(line, highlight=False)
    if live.estimator is not None:
        line = f"accuracy by scores, before labels come: {live.estimator.reason}"
        console.print(line, highlight=False)
    if live.without_key:
        line = f"{live.without_key} rows have no key, so no label can be joined to them"
        console.print(line, highlight=False)
    for note in live.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _coverage(day: LiveDay) -> str:
    share = f" ({day.labelled / day.keys:.0%})" if day.keys else ""
    return f"{day.labelled} of {day.keys} keys{share}"


def _estimate(day: LiveDay) -> str:
    if day.estimate is None or not day.estimate.rows:
        return "-"
    return f"{day.estimate.value:.4f} ({day.estimate.low:.4f} to {day.estimate.high:.4f})"


def _value(day: LiveDay) -> str:
    value, low, high = day.metric
    if not math.isfinite(value):
        return "-"
    interval = f" ({low:.4f} to {high:.4f})" if math.isfinite(low) else " (no interval)"
    return f"{value:.4f}{interval}"
