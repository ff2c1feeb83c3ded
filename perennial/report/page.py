"""The run report: one self-contained HTML page that a person who was not there can read in a minute."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.report import (
    comparison_plots,
    comparison_rows,
    formats,
    headline,
    plots,
    probe_plots,
    tables,
    training_plots,
)
from perennial.report.facts import RunFacts
from perennial.tasks import METRICS, metric_words
from perennial.training.weight_draws import healthy
from schemas.records import Training

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
# What the notes of an instance hold that was to start from the champion and could not.
_NOT_PATCHED = ("started from the stabilised weights", "run_fn trained anew", "run_fn was given no base_model")
_PRETEXTS = {
    "rotation": "they learned by how many quarter turns an image was turned",
    "masked_image": "they learned to fill in what was masked in images",
    "masked_features": "they learned to fill in features that were masked",
    "masked_words": "they learned to fill in words that were masked",
}


def render_report(facts: RunFacts) -> str:
    """Renders the page: HTML with its styles and plots inside; the same facts give the same bytes."""
    rows, evaluation = tables.span_rows(facts), facts.evaluation
    return (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            verdict=headline.verdict_sentence(facts),
            duration=formats.format_duration(facts.started_at, facts.ended_at),
            quoted=headline.is_quoted(facts),
            stops=headline.list_stops(facts),
            spans=rows,
            judged=[row for row in rows if row.judged and row.new],
            leading=_leading_metric(facts),
            loss=formats.loss_words(evaluation.tasks if evaluation else facts.tasks),
            chosen=tables.chosen_rows(facts),
            trials=tables.best_trials_first(facts.tuning) if facts.tuning else [],
            spaces_compared=tables.space_rows(facts.designs) if facts.designs else [],
            criteria=comparison_rows.criterion_rows(facts.decision, facts.gate) if facts.decision else [],
            metrics=tables.metric_rows(evaluation) if evaluation else [],
            mistakes=tables.worst_first(evaluation) if evaluation else [],
        )
    )


def started_from(training: Training, facts: RunFacts) -> str:
    """Where an instance's weights came from, in a few headline."""
    cold = "what run_fn makes" if facts.by_run_fn else "the chosen draw" if facts.stabilisation else "new weights"
    if training.instance.start == "cold":
        return cold
    if any(sign in note for note in training.notes for sign in _NOT_PATCHED):
        return f"{cold}: not patched"
    return "the champion, as base_model" if facts.by_run_fn else "the champion, patched"


def trained_on(training: Training) -> str:
    """The strategy of an instance, and over how much it was spread; `run_fn` decides for itself."""
    strategy = training.strategy if training.strategy == "run_fn" else training.strategy.replace("_", " ")
    workers = f", {training.workers} workers" if training.workers > 1 else ""
    spread = training.replicas > 1 and training.replicas != training.workers
    return strategy + workers + (f", {training.replicas} replicas" if spread else "")


def remarks(training: Training) -> list[str]:
    """What a person should know of an instance beside its numbers."""
    said = []
    if training.resumed_from is not None:
        said.append(f"was interrupted, and went on from its checkpoint in epoch {training.resumed_from + 1}")
    if training.restarts:
        said.append(f"workers died and were started again, {training.restarts}×")
    return [*said, *training.notes]


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
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
        "remarks": remarks,
    }
    environment.tests["told"] = comparison_rows.has_interval
    environment.globals |= {
        "plots": plots,
        "judgement": comparison_plots,
        "judging": comparison_rows,
        "probing_plots": probe_plots,
        "probed_in_words": comparison_rows.probed_in_words,
        "curves": training_plots,
        "group_checks": tables.group_checks,
        "label_counts": tables.label_counts,
        "failed_samples": tables.failed_samples,
        "why_chosen": headline.why_chosen,
        "healthy": healthy,
        "unit_of": formats.unit_of,
        "started_from": started_from,
        "trained_on": trained_on,
        "pretext_words": _PRETEXTS,
    }
    return environment


def _leading_metric(facts: RunFacts) -> str:
    """The metric that decides: the gate's, else the most telling of the first task."""
    if facts.gate:
        return facts.gate.metric
    tasks = facts.evaluation.tasks if facts.evaluation else facts.tasks
    return METRICS[tasks[0].kind][0] if tasks else "accuracy"
