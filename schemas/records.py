"""Records that steps hand to each other, to the ledger and to the report.

All are immutable pydantic models; JSON is their only form outside a process.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from schemas.project import Severity

Outcome = Literal["promoted", "kept_champion", "data_rejected", "nothing_new", "failed"]
EventKind = Literal[
    "run_started",
    "span_accepted",
    "span_quarantined",
    "span_released",
    "span_rejected",
    "schema_accepted",
    "decision",
    "deployment",
    "run_ended",
]


class Record(BaseModel):
    """Base of all records: unknown fields are refused, values never change.

    JSON has no NaN and no infinity; they are written as strings, so that a diverged loss survives the way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


# --- data ---------------------------------------------------------------------------------------


class Span(Record):
    """One landing of labelled data.

    `uri` is a path, a URL, a pattern of them (a span of several files), or the SQLAlchemy URL of a table without
    its password. The fingerprint is the SHA-256 of the bytes, or of what a table tells of its rows; other data are
    another version.
    """

    name: str
    version: int
    uri: str
    fingerprint: str


class Check(Record):
    """One thing that was looked at in one span.

    `verdict` is `not_compared` when there was nothing to compare with: never a silent pass. It is `set_aside` when
    the rows that failed were few enough to be set aside. `severity` is what a failure does. `distance` and
    `threshold` are those of a drift or skew check.
    """

    kind: Literal["readable", "columns", "rows", "schema", "expectation", "drift", "label_drift", "skew"]
    subject: str
    verdict: Literal["passed", "failed", "set_aside", "not_compared"]
    message: str
    severity: Severity = "quarantine"
    distance: float | None = None
    threshold: float | None = None


class SetAside(Record):
    """A row that was set aside: where it stood, why, and what it held (values as JSON; long ones shortened).

    `place` is such as `data/2026-01-31.csv: line 17`, or `id digit-0012` where only the example's key is known.
    """

    span: str
    place: str
    reasons: list[str]
    values: dict[str, Any]


class Ingestion(Record):
    """What ingesting one span gave: the rows that became examples, per split and per label, and those that could not.

    `columns` are the span's columns in their order. `causes` counts the rows set aside by reason in general terms;
    each row stands in the folder's quarantine file. `problem` is what makes the whole span unreadable.
    `content` is a digest of everything that decided which examples the folder holds.
    """

    span: Span
    columns: list[str]
    rows: dict[str, int]
    labels: dict[str, int]
    set_aside: int = 0
    causes: dict[str, int] = {}
    problem: str | None = None
    content: str = ""


class CheckedSpan(Record):
    """What the row rules and the expectations found in one span, and the rows that are left.

    `checks` are of the kinds readable, rows and expectation.
    """

    span: Span
    columns: list[str]
    rows: dict[str, int]
    labels: dict[str, int]
    set_aside: int
    checks: list[Check]
    content: str

    @property
    def readable(self) -> bool:
        """Whether examples could be read from the span."""
        return not any(check.kind == "readable" and check.verdict == "failed" for check in self.checks)


class SpanValidation(Record):
    """What is known of one span after validation; `rows` per split, and whether a person `released` it."""

    span: Span
    new: bool
    rows: dict[str, int]
    labels: dict[str, int]
    checks: list[Check]
    set_aside: int = 0
    released: bool = False

    @property
    def failures(self) -> list[Check]:
        """The checks that failed and are more than a warning."""
        return [check for check in self.checks if check.verdict == "failed" and check.severity != "warn"]

    @property
    def warnings(self) -> list[Check]:
        """The checks that failed and only warn."""
        return [check for check in self.checks if check.verdict == "failed" and check.severity == "warn"]

    @property
    def quarantined(self) -> bool:
        """Whether the span is kept out of the window until a person decides. What cannot be read cannot be released."""
        unreadable = any(check.kind == "readable" for check in self.failures)
        return self.new and bool(self.failures) and (unreadable or not self.released)


class Validation(Record):
    """The verdict on all new spans of a run. `accepted`: the run goes on, with the spans that are not quarantined."""

    spans: list[SpanValidation]
    accepted: bool
    reasons: list[str]


# --- models -------------------------------------------------------------------------------------


class Champion(Record):
    """The registry version that serves, by which deployment in the ledger."""

    version: str
    digest: str
    deployment: int


class Instance(Record):
    """One training instance of a run."""

    name: str
    seed: int


class Selection(Record):
    """What a run works on; the input of every other step.

    What may be absent has a default: Kubeflow's parameters cannot hold a null. `released` names those of the new
    spans that a person released from quarantine.
    """

    run: str
    window: list[Span]
    new_spans: list[str]
    released: list[str] = []
    instances: list[Instance]
    data_digest: str
    rules_digest: str = ""
    checks_digest: str
    project_digest: str
    schema_digest: str
    resumes: str | None = None
    champion: Champion | None = None
    git_commit: str | None = None


class WeightDraw(Record):
    """One draw of initial weights: its losses by step and its numerical health.

    `gradient_norm` and `gradient_variance` are the mean and variance of the global gradient norm;
    `dead_units` is the share of ReLU units that gave zero on every probed example, None where the model has none.
    """

    seed: int
    losses: list[float]
    gradient_norm: float
    gradient_variance: float
    dead_units: float | None
    finite: bool


class Stabilisation(Record):
    """All draws, and the index of the one whose weights go on."""

    draws: list[WeightDraw]
    chosen: int


class Hyperparameters(Record):
    """What training uses. `source` says who chose: the settings, or the tuner."""

    learning_rate: float
    batch_size: int
    source: Literal["settings"] = "settings"


class Epoch(Record):
    """One pass over the training split. Losses are cross-entropies in nats."""

    train_loss: float
    eval_loss: float
    eval_accuracy: float


class Training(Record):
    """One trained instance. `digest` is the SHA-256 of its SavedModel; `parameters` counts trainable weights."""

    instance: Instance
    strategy: str
    replicas: int
    parameters: int
    train_examples: int
    eval_examples: int
    hyperparameters: Hyperparameters
    epochs: list[Epoch]
    best_epoch: int
    digest: str

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were exported."""
        return self.epochs[self.best_epoch]


# --- judgement ----------------------------------------------------------------------------------


class SliceMetrics(Record):
    """Metrics of one model on one slice (`overall`, or `feature=value`)."""

    model: str
    slice: str
    examples: int
    accuracy: float
    log_loss: float


class Difference(Record):
    """Candidate minus champion on one metric, oriented so that positive is better, with a paired interval."""

    metric: str
    slice: str
    examples: int
    value: float
    low: float
    high: float
    confidence: float


class ConfusionMatrix(Record):
    """Counts: `counts[i][j]` examples of class `labels[i]` were predicted as `labels[j]`."""

    model: str
    labels: list[str]
    counts: list[list[int]]


class Mistake(Record):
    """A test example that the candidate got wrong, with its probability for the wrong class."""

    key: str
    span: str
    label: int
    predicted: int
    probability: float


class Evaluation(Record):
    """Everything measured on the test split. `candidate` names the instance that faces the champion.

    `window` holds the spans that were trained and tested on, oldest first.
    """

    candidate: str
    digest: str
    champion: Champion | None
    window: list[Span] = []
    trainings: list[Training]
    examples: int
    slices: list[SliceMetrics]
    differences: list[Difference]
    confusion: list[ConfusionMatrix]
    mistakes: list[Mistake]
    not_compared: list[str]

    def overall(self, model: str) -> SliceMetrics | None:
        """The overall metrics of `candidate` or `champion`, if that model was evaluated."""
        found = (row for row in self.slices if row.model == model and row.slice == "overall")
        return next(found, None)


class Criterion(Record):
    """One thing the gate asked. `numbers` holds what was compared."""

    name: str
    passed: bool
    explanation: str


class Decision(Record):
    """Promote or keep, with every criterion, the reasons in words, and what was not compared."""

    promote: bool
    criteria: list[Criterion]
    reasons: list[str]
    not_compared: list[str]


class ModelVersion(Record):
    """A version in the registry."""

    name: str
    version: str
    digest: str
    source: str
    mlflow_run: str


class ServingCheck(Record):
    """What the real server answered for real examples, beside what evaluation computed for them."""

    passed: bool
    requests: int
    largest_difference: float
    seconds_to_ready: float
    message: str


# --- ledger -------------------------------------------------------------------------------------


class RunStarted(Record):
    """A run began to work on this selection."""

    selection: Selection


class SpanJudged(Record):
    """A span version was accepted or quarantined by a run, or released or rejected by a person, and why.

    `by` is the person, None for a run; `reasons` are then the person's own. What is not `readable` cannot be
    released.
    """

    span: Span
    rows: int
    reasons: list[str]
    set_aside: int = 0
    readable: bool = True
    by: str | None = None


class SchemaAccepted(Record):
    """A person accepted a change of the schema. `changes` are the lines of the diff that was reviewed."""

    before: str
    after: str
    changes: list[str]
    by: str
    why: str


class DecisionMade(Record):
    """The gate's decision on a registered candidate."""

    decision: Decision
    version: str
    digest: str


class Deployment(Record):
    """A version was made the one that serves. `replaces` is the ledger number of the deployment before it."""

    version: str
    digest: str
    action: Literal["push", "promote", "rollback"]
    by: str
    why: str
    replaces: int | None


class RunEnded(Record):
    """How a run ended."""

    outcome: Outcome
    reasons: list[str]
    window: list[str]
    new_spans: list[str]
    version: str | None
    champion: str | None
    report: str | None
