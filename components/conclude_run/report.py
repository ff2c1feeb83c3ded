"""The run report: one self-contained HTML page that a person who was not there can read in a minute."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from components.conclude_run import plots
from schemas import records
from schemas.project import GateSettings

if TYPE_CHECKING:
    from markupsafe import Markup

LONGEST_QUOTE = 140  # characters of a reason that still make a headline
# The stops of a run, in order: anchor on the page, name.
STOPS = {"landed": "Data selection", "checked": "Checks", "stabilised": "Weight draws"} | {
    "compared": "Training and comparison",
    "decided": "Decision",
    "served": "Serving check",
    "deployed": "Deployment",
}


class _Hrefs(records.Record):
    """Addresses relative to the page."""

    @field_validator("*")
    @classmethod
    def _relative(cls, href: object) -> object:
        if isinstance(href, str) and (urlsplit(href).scheme or href.startswith(("/", "\\"))):
            raise ValueError(f"must be relative to the report, as `../log.txt`. Received: {href}")
        return href


class SpanLinks(_Hrefs):
    """Where more stands of one new span: Data Docs, the statistics view, the rows that were set aside."""

    data_docs: str | None = None
    statistics: str | None = None
    set_aside: str | None = None


class Links(_Hrefs):
    """Where more stands: the log, the pipeline, the registry, and what is known of each new span, by its name."""

    log: str | None = None
    pipeline: str | None = None
    registry: str | None = None
    spans: dict[str, SpanLinks] = Field(default_factory=dict)


class RunFacts(records.Record):
    """All that is known of a run when it ends. What is None was not reached; times are ISO 8601."""

    project: str
    run: str
    outcome: records.Outcome
    reasons: list[str]
    started_at: str
    ended_at: str
    git_commit: str | None = None
    selection: records.Selection | None = None
    validation: records.Validation | None = None
    stabilisation: records.Stabilisation | None = None
    evaluation: records.Evaluation | None = None
    decision: records.Decision | None = None
    version: records.ModelVersion | None = None
    serving_check: records.ServingCheck | None = None
    deployed: bool = False
    champion_before: str | None = None
    champion_after: str | None = None
    gate: GateSettings | None = None
    links: Links = Links()


@dataclass(frozen=True)
class Stop:
    """One stop of the run, and in a few words what came of it; the run ended where it `stopped` or `broke_off`."""

    anchor: str
    name: str
    state: Literal["done", "stopped", "broke_off", "not_reached"]
    note: str


@dataclass(frozen=True)
class SpanRow:
    """A span of the window; `judged` is None when this run did not look into it."""

    span: records.Span
    new: bool
    judged: records.SpanValidation | None

    def count(self, verdict: str) -> int:
        """How many checks of the span ended so; `failed` does not count those that only warn, `warned` does."""
        if not self.judged:
            return 0
        counted = {"failed": self.judged.failures, "warned": self.judged.warnings}
        return len(counted.get(verdict, [check for check in self.judged.checks if check.verdict == verdict]))

    @property
    def fate(self) -> str:
        """What became of the span in this run, in a few words."""
        if not (self.judged and self.judged.new):
            return "known"
        if self.judged.quarantined:
            return "quarantined"
        return "released by a person" if self.judged.released else "accepted"


@dataclass(frozen=True)
class MetricRow:
    """One metric on one slice: both models and their difference, each where it is known."""

    metric: str
    slice: str
    examples: int
    candidate: float | None
    champion: float | None
    difference: records.Difference | None


def render_report(facts: RunFacts) -> str:
    """Renders the page: HTML with its styles and plots inside; the same facts give the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= dict(
        number=format_number, metric=format_metric, change=format_change, time=format_time, code=mark_code
    )
    environment.globals |= {"plots": plots, "group_checks": group_checks, "label_counts": label_counts}
    rows = span_rows(facts)
    return environment.get_template("report.html").render(
        facts=facts,
        verdict=verdict_sentence(facts),
        duration=format_duration(facts.started_at, facts.ended_at),
        quoted=_is_quoted(facts),
        stops=list_stops(facts),
        spans=rows,
        judged=[row for row in rows if row.judged and row.new],
        metrics=metric_rows(facts.evaluation) if facts.evaluation else [],
    )


def verdict_sentence(facts: RunFacts) -> str:
    """What the run came to, in one plain sentence."""
    holder = facts.champion_after
    served = f"champion version {holder} keeps serving" if holder else "no version serves yet"
    if facts.outcome == "promoted":
        return _promotion(facts, served)
    if facts.outcome == "kept_champion":
        before = facts.champion_before
        return f"{f'Champion version {before} stays' if before else 'There is still no champion'}: {_why_kept(facts)}."
    if facts.outcome == "data_rejected":
        return f"The data {_refused_spans(facts)} was refused; {served}."
    if facts.outcome == "nothing_new":
        return f"No new data has landed; {served}."
    if facts.serving_check and not facts.serving_check.passed:
        return f"The candidate failed the serving check; {served}."
    broke_off = [stop.name.lower() for stop in list_stops(facts) if stop.state == "broke_off"]
    return f"The run failed{f': its {broke_off[0]} did not finish' if broke_off else ''}; {served}."


def list_stops(facts: RunFacts) -> list[Stop]:
    """The stops of the run in order, and which of them ended it, if it did not come to a deployment."""
    notes = _notes(facts)
    last = max((number for number, anchor in enumerate(STOPS) if notes[anchor]), default=-1)
    ends = {"data_rejected": "checked", "nothing_new": "landed", "kept_champion": "decided"}.get(facts.outcome)
    if facts.outcome == "failed":
        refused = facts.serving_check is not None and not facts.serving_check.passed
        ends = "served" if refused else next(iter(list(STOPS)[last + 1 :]), None)
    return [_stop(anchor, notes[anchor], anchor == ends) for anchor in STOPS]


def span_rows(facts: RunFacts) -> list[SpanRow]:
    """The spans that the run looked at, newest first."""
    judged = {row.span.fingerprint: row for row in facts.validation.spans} if facts.validation else {}
    window = facts.selection.window if facts.selection else [row.span for row in judged.values()]
    new = facts.selection.new_spans if facts.selection else []
    found = [(span, judged.get(span.fingerprint)) for span in reversed(window)]
    return [SpanRow(span, seen.new if seen else span.name in new, seen) for span, seen in found]


def label_counts(rows: Sequence[SpanRow]) -> dict[str, int]:
    """Examples by label, over the spans whose labels this run counted."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.judged.labels if row.judged else {})
    return dict(counts)


def group_checks(rows: Sequence[SpanRow], verdict: str) -> list[tuple[records.Check, list[str]]]:
    """The checks that ended so (`warned`: failed, but only a warning), equal ones of several spans as one."""
    groups: dict[records.Check, list[str]] = {}
    for row in rows:
        for check in row.judged.checks if row.judged else []:
            warned = check.verdict == "failed" and check.severity == "warn"
            if verdict == ("warned" if warned else check.verdict):
                groups.setdefault(check, []).append(row.span.name)
    return list(groups.items())


def metric_rows(evaluation: records.Evaluation) -> list[MetricRow]:
    """All metrics by slice, `overall` first, candidate and champion beside each other."""
    metrics = dict.fromkeys(["accuracy", "log_loss", *(row.metric for row in evaluation.differences)])
    names = dict.fromkeys(["overall", *(row.slice for row in evaluation.slices)])
    measured = {(row.model, row.slice): row for row in evaluation.slices}
    differences = {(row.metric, row.slice): row for row in evaluation.differences}
    rows = []
    for name, metric in itertools.product(names, metrics):
        both = [measured.get((model, name)) for model in ("candidate", "champion")]
        difference = differences.get((metric, name))
        examples = max((row.examples for row in both if row), default=difference.examples if difference else 0)
        candidate, champion = (getattr(row, metric, None) for row in both)
        rows.append(MetricRow(metric, name, examples, candidate, champion, difference))
    return [row for row in rows if (row.candidate, row.champion, row.difference) != (None, None, None)]


def mark_code(text: str) -> Markup:
    """Text for the page, with what stands between backquotes as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def format_number(value: float) -> str:
    """A number with at most four significant digits, and words for what is not a finite number."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite" if value > 0 else "−infinite"
    whole = isinstance(value, int) or abs(value) >= 1000
    return (f"{value:,.0f}" if whole else f"{value:.4g}").replace("-", "−")


def format_metric(value: float, metric: str) -> str:
    """A metric's value: accuracy in percent, losses with three decimals."""
    if not math.isfinite(value):
        return format_number(value)
    return f"{value:.1%}" if metric == "accuracy" else f"{value:.3f}".replace("-", "−")


def format_change(value: float, metric: str) -> str:
    """A signed difference: accuracy in percentage points, losses with three decimals."""
    if not math.isfinite(value):
        return format_number(value)
    return (f"{100 * value:+.1f}" if metric == "accuracy" else f"{value:+.3f}").replace("-", "−")


def format_time(moment: str) -> str:
    """An ISO 8601 time as a person writes it; anything else as it stands."""
    try:
        at = datetime.datetime.fromisoformat(moment)
    except ValueError:
        return moment
    zone = f" {at.tzname()}" if at.tzinfo else ""
    return f"{at.day} {at:%B %Y, %H:%M:%S}{zone}"


def format_duration(start: str, end: str) -> str | None:
    """The time between two ISO 8601 times, or None when they cannot be compared."""
    try:
        seconds = (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):  # one with a zone and one without cannot be subtracted
        return None
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _promotion(facts: RunFacts, served: str) -> str:
    version = f"Version {facts.version.version if facts.version else facts.champion_after}"
    if not facts.deployed:
        return f"{version} passed the gate but was not deployed; {served}."
    if facts.champion_before is None:
        return f"{version} is the first champion."
    return f"{version} replaced version {facts.champion_before} as champion."


def _is_quoted(facts: RunFacts) -> bool:
    """Whether the headline itself gives the one reason there is."""
    return facts.outcome == "kept_champion" and len(facts.reasons) == 1 and len(facts.reasons[0]) <= LONGEST_QUOTE


def _why_kept(facts: RunFacts) -> str:
    if _is_quoted(facts):
        reason = facts.reasons[0].rstrip(".")
        return reason[:1].lower() + reason[1:] if reason[1:2].islower() else reason
    passed = [criterion.passed for criterion in facts.decision.criteria] if facts.decision else []
    return f"the candidate failed {passed.count(False)} of the gate's {len(passed)} criteria"


def _refused_spans(facts: RunFacts) -> str:
    judged = [row for row in reversed(span_rows(facts)) if row.new and row.judged]
    refused = [row.span.name for row in judged if row.fate == "quarantined"]
    names = refused or [row.span.name for row in judged]
    if len(names) > 4:
        return f"of {len(names)} spans ({names[0]} to {names[-1]})"
    word = "on" if all(re.fullmatch(r"\d{4}-\d\d-\d\d", name) for name in names) else "as"
    return f"that landed {word} {' and '.join(names)}" if names else "that landed"


def _stop(anchor: str, note: str | None, ends: bool) -> Stop:
    if note:
        return Stop(anchor, STOPS[anchor], "stopped" if ends else "done", note)
    if ends:
        return Stop(anchor, STOPS[anchor], "broke_off", "not finished")
    return Stop(anchor, STOPS[anchor], "not_reached", "not reached")


def _notes(facts: RunFacts) -> dict[str, str | None]:
    rows, draws = span_rows(facts), facts.stabilisation
    new = sum(row.new for row in rows)
    counts = {kind: sum(row.count(kind) for row in rows) for kind in ("passed", "failed", "warned", "not_compared")}
    warned = f", {counts['warned']} warning{'s' if counts['warned'] > 1 else ''}" if counts["warned"] else ""
    checked = f"{counts['passed']} passed, {counts['failed']} failed{warned}, {counts['not_compared']} not compared"
    trained = len(facts.evaluation.trainings) if facts.evaluation else 0
    check = facts.serving_check
    return {
        "landed": f"{new} new, {len(rows)} in the window" if facts.selection or facts.validation else None,
        "checked": checked if facts.validation else None,
        "stabilised": f"seed {draws.draws[draws.chosen].seed} of {len(draws.draws)} draws" if draws else None,
        "compared": f"{trained} instance{'s' if trained != 1 else ''}" if facts.evaluation else None,
        "decided": ("promote" if facts.decision.promote else "keep") if facts.decision else None,
        "served": ("passed" if check.passed else "failed") if check else None,
        "deployed": f"version {facts.champion_after}" if facts.deployed else None,
    }
