"""The facts that the run report is made from: all that is known of a run, and links to more."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from schemas import records
from schemas.project import GateSettings


class _Hrefs(records.Record):
    """Addresses relative to the page."""

    @field_validator("*")
    @classmethod
    def _relative(cls, href: object) -> object:
        if isinstance(href, str) and (urlsplit(href).scheme or href.startswith(("/", "\\"))):
            raise ValueError(f"must be relative to the report, as `../log.txt`. Received: {href}")
        return href


class SpanLinks(_Hrefs):
    """Links of one new span: Data Docs, the statistics view, the rows that were set aside."""

    data_docs: str | None = None
    statistics: str | None = None
    set_aside: str | None = None


class Links(_Hrefs):
    """Links to the log, the pipeline, the registry, logs and results, and those of new spans."""

    log: str | None = None
    pipeline: str | None = None
    registry: str | None = None
    tensorboard: str | None = None
    tuning: str | None = None
    designs: str | None = None
    spans: dict[str, SpanLinks] = Field(default_factory=dict)


class RunFacts(records.Record):
    """All that is known of a run when it ends. What is None was not reached; times are ISO 8601.

    `failed_step` is the step that ended a failed run, where that is known. `ledger` is the head of
    the ledger before the run's own end is recorded. `tasks` are the
    project's; `settings_own` are the hyperparameters that its settings name.
    """

    project: str
    run: str
    outcome: records.Outcome
    reasons: list[str]
    started_at: str
    ended_at: str
    failed_step: str | None = None
    git_commit: str | None = None
    tasks: list[records.EvaluatedTask] = Field(default_factory=list)
    settings_own: records.Hyperparameters | None = None
    selection: records.Selection | None = None
    validation: records.Validation | None = None
    pretraining: records.Pretraining | None = None
    stabilisation: records.Stabilisation | None = None
    tuning: records.Tuning | None = None
    designs: records.DesignComparison | None = None
    evaluation: records.Evaluation | None = None
    probing: records.Probing | None = None
    decision: records.Decision | None = None
    version: records.ModelVersion | None = None
    serving_check: records.ServingCheck | None = None
    warnings: list[records.RunWarning] = Field(default_factory=list)
    deployed: bool = False
    champion_before: str | None = None
    champion_after: str | None = None
    gate: GateSettings | None = None
    ledger: records.LedgerHead | None = None
    links: Links = Links()

    @property
    def attempt(self) -> int:
        """Numbers the repetition of a run whose candidate was not good enough; 0: it is none."""
        return self.selection.attempt if self.selection else 0

    @property
    def by_run_fn(self) -> bool:
        """Tells whether the module's `run_fn` trained, which owns its weights and its loop."""
        return self.evaluation is not None and any(
            t.strategy == "run_fn" for t in self.evaluation.trainings
        )
