"""The run report: one self-contained HTML page, made to be read in a minute."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.report import figures, formats, headline
from perennial.report.comparison import plots as comparison_plots
from perennial.report.comparison import rows as comparison_rows
from perennial.report.data import plots as data_plots
from perennial.report.data import rows as data_rows
from perennial.report.decision import rows as decision_rows
from perennial.report.facts import RunFacts
from perennial.report.probes import plots as probe_plots
from perennial.report.probes import rows as probe_rows
from perennial.report.training import plots as training_plots
from perennial.report.training import rows as training_rows
from perennial.tasks import METRICS, metric_words
from perennial.training.weight_draws import healthy
from schemas.records import CANDIDATE, CHAMPION, OVERALL, SERVING_DISTRIBUTION
from schemas.triggers import TRIGGERS

if TYPE_CHECKING:
    from jinja2 import Environment


def render_report(facts: RunFacts) -> str:
    """Renders the page, with its styles and plots inside; the same facts give the same bytes."""
    evaluation = facts.evaluation
    return (
        load_templates()
        .get_template("page.html")
        .render(
            facts=facts,
            verdict=headline.verdict_sentence(facts),
            duration=formats.format_duration(facts.started_at, facts.ended_at),
            quoted=headline.is_quoted(facts),
            stops=headline.list_stops(facts),
            spans=data_rows.span_rows(facts),
            metrics=comparison_rows.metric_rows(evaluation) if evaluation else [],
            leading=_leading_metric(facts),
            loss=formats.loss_words(evaluation.tasks if evaluation else facts.tasks),
        )
    )


@functools.cache
def load_templates() -> Environment:
    """Compiles the templates of the page, once in a process and those that are forked from it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {
        "number": formats.format_number,
        "metric": formats.format_metric,
        "loss": formats.format_loss,
        "error": lambda value: formats.format_loss(value) if math.isfinite(value) else "failed",
        "change": formats.format_change,
        "p_value": formats.format_p_value,
        "seconds": formats.format_seconds,
        "value": formats.format_value,
        "values": formats.format_values,
        "time": formats.format_time,
        "code": formats.mark_code,
        "words": metric_words,
        "upper_first": lambda text: text[:1].upper() + text[1:],
        "root": lambda value: math.sqrt(value) if value >= 0 else value,
        "remarks": training_rows.remarks,
    }
    environment.globals |= {
        "comparison_plots": comparison_plots,
        "comparison_rows": comparison_rows,
        "data_plots": data_plots,
        "data_rows": data_rows,
        "decision_rows": decision_rows,
        "probe_plots": probe_plots,
        "probe_rows": probe_rows,
        "training_plots": training_plots,
        "training_rows": training_rows,
        "in_order": figures.in_order,
        "healthy": healthy,
        "unit_of": formats.unit_of,
        "CANDIDATE": CANDIDATE,
        "CHAMPION": CHAMPION,
        "OVERALL": OVERALL,
        "SERVING_DISTRIBUTION": SERVING_DISTRIBUTION,
        "TRIGGERS": TRIGGERS,
    }
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)
    return environment


def _leading_metric(facts: RunFacts) -> str:
    """Gives the metric that decides: the gate's, else the most telling of the first task."""
    if facts.gate:
        return facts.gate.metric
    tasks = facts.evaluation.tasks if facts.evaluation else facts.tasks
    return METRICS[tasks[0].kind][0] if tasks else "accuracy"
