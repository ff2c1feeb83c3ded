"""Records of models: what trained them, and how that went."""

from __future__ import annotations

from typing import ClassVar, Literal

from schemas.project import Metric, PretextTask, TaskKind
from schemas.records.base import FileRecord, Record
from schemas.records.data import Span
from schemas.triggers import Trigger


class NotFinite(FileRecord):
    """The transformed features and labels that are NaN or infinite, with in how many examples.

    `rows` are all examples of the train and eval splits.
    """

    FILE: ClassVar[str] = "not_finite.json"
    rows: int
    examples: dict[str, int]


class Champion(Record):
    """The registry version that serves, by which deployment in the ledger."""

    version: str
    digest: str
    deployment: int


class Instance(Record):
    """One training instance of a run.

    `start` says where its weights come from: the stabilised draw, or the champion's own (patched).
    `rank` is which of the tuner's best hyperparameters it takes, from 0; fewer than that: the last.
    """

    name: str
    seed: int
    start: Literal["cold", "patched"] = "cold"
    rank: int = 0


class Hyperparameters(Record):
    """Values that training uses. `model` holds the values of what `build_model` asks its `hp` for.

    `source` says who chose: the settings (then `model` is empty: every default), or the tuner.
    """

    learning_rate: float
    batch_size: int
    model: dict[str, int | float | str | bool] = {}
    source: Literal["settings", "tuner"] = "settings"


class Tuned(Record):
    """The outcome of the newest search, for later runs.

    The best first, which space was searched, when, by which run.

    `space` is a digest of everything that decides what is searched; `at` is UTC, ISO 8601.
    """

    best: list[Hyperparameters]
    space: str
    at: str
    run: str


class Selection(FileRecord):
    """The work of a run; the input of every other step.

    `released` names
    those of the new spans that a person released from quarantine. `tuned` are the hyperparameters
    of an earlier search that are still to be used; where there are none, `tune_reason` says why, as
    the end of "searched because ...". `attempt` counts the repetitions of a run whose candidate was
    not good enough, from 0; `seed` is that of its first weight draw and instance. `served` changes
    whenever the serving log does, where evaluation reads it. `former` are earlier champions that
    the champion is held against. `fence` is the number of the lease that the run holds; None: it
    took none. `package` is the digest of the package that the run reads the project from; None: it
    reads the folder. `stages` names the steps that the pipeline has because the settings ask for
    them; None: the run was before pipelines differed.
    `trigger` is what began the run; None: the run was before that was recorded.
    `known_rows` are digests of the rows of spans that are not in the window and were trained on,
    each with the name of the span; the ledger, which they come from, holds them no second time.
    """

    FILE: ClassVar[str] = "selection.json"

    run: str
    window: list[Span]
    new_spans: list[str]
    released: list[str] = []
    instances: list[Instance]
    data_digest: str
    rules_digest: str = ""
    statistics_digest: str = ""
    checks_digest: str
    project_digest: str
    schema_digest: str
    tuned: Tuned | None = None
    tune_reason: str = ""
    attempt: int = 0
    trigger: Trigger | None = None
    seed: int = 1
    served: str = ""
    stages: list[str] | None = None
    resumes: str | None = None
    champion: Champion | None = None
    former: list[Champion] = []
    known_rows: dict[str, str] = {}
    git_commit: str | None = None
    package: str | None = None
    fence: int | None = None


class Pretraining(FileRecord):
    """The result of pretraining without labels.

    `losses` and `held_out_losses` are by epoch, in the unit of the task. `notes` tell what a person
    should know.
    """

    FILE: ClassVar[str] = "pretraining.json"

    task: PretextTask
    examples: int
    unlabelled: int = 0
    losses: list[float] = []
    held_out_losses: list[float] = []
    parameters: int = 0
    notes: list[str] = []


class WeightDraw(Record):
    """One draw of initial weights: its losses by step and its numerical health.

    `gradient_norm` and `gradient_variance` are the mean and variance of the global gradient norm;
    `dead_units` is the share of ReLU units that gave zero on every probed example, None where the
    model has none.
    """

    seed: int
    losses: list[float]
    gradient_norm: float
    gradient_variance: float
    dead_units: float | None
    finite: bool


class Stabilisation(FileRecord):
    """All draws, and the index of the one whose weights go on.

    `pretrained` counts the weights that came from pretraining.
    """

    FILE: ClassVar[str] = "stabilisation.json"

    draws: list[WeightDraw]
    chosen: int
    pretrained: int = 0


class Trial(Record):
    """One trial of the tuner: what it tried, by name, and the lowest eval loss it reached.

    `loss` is None where it came to nothing. `started_from` says how much of the stabilised weights
    fitted: `24 of 24 weights`. `message` is why it failed.
    """

    number: int
    values: dict[str, int | float | str | bool]
    loss: float | None
    losses: list[float] = []
    seconds: float = 0.0
    started_from: str = ""
    message: str | None = None


class Tuning(FileRecord):
    """The choice of the hyperparameters. `best` has at least one, the best first.

    `outcome`: `searched` (by this run) or `reused` (of an earlier search, `tuned`).
    `why` is a sentence for people. `space` is as in `Tuned`.
    """

    FILE: ClassVar[str] = "tuning.json"

    outcome: Literal["searched", "reused"]
    why: str
    best: list[Hyperparameters]
    space: str
    trials: list[Trial] = []
    tuned: Tuned | None = None


class DesignSample(Record):
    """One model of a design space, trained for a few epochs.

    `error` is its lowest eval loss, None: it failed.
    """

    space: str
    values: dict[str, int | float | str | bool]
    error: float | None
    parameters: int = 0
    seconds: float = 0.0
    message: str | None = None


class SpaceTest(Record):
    """Two design spaces compared by their distributions of errors.

    `statistic` and `p_value` are of a two-sample Kolmogorov-Smirnov test, the p-value corrected for
    the number of pairs; `better` is the space with the lower errors where the difference is more
    than chance, else None.
    """

    first: str
    second: str
    statistic: float
    p_value: float
    better: str | None


class DesignComparison(FileRecord):
    """The compared design spaces, with every model that was sampled of them."""

    FILE: ClassVar[str] = "designs.json"

    spaces: list[str]
    samples: list[DesignSample]
    tests: list[SpaceTest]


class Epoch(Record):
    """One pass over the training split. Losses are the tasks' weighted sum.

    Nats for classes, squares for values.

    `eval_metric` is that of the first task: its name stands in `Training.metric`.
    """

    train_loss: float
    eval_loss: float
    eval_metric: float


class Training(FileRecord):
    """One trained instance. `digest` is the SHA-256 of its SavedModel.

    `parameters` counts trainable weights.

    `resumed_from` is the epoch (from 0) that a killed training went on with; `restarts` counts
    workers that died and were started again. `weights_from` is what it started from: the champion,
    or a draw (of `run_fn`: what it makes); None: an older record. `notes` tell what a person should
    know, such as why the champion could not be patched.
    """

    FILE: ClassVar[str] = "training.json"

    instance: Instance
    strategy: str
    replicas: int
    workers: int = 1
    parameters: int
    train_examples: int
    eval_examples: int
    hyperparameters: Hyperparameters
    metric: Metric
    epochs: list[Epoch]
    best_epoch: int
    resumed_from: int | None = None
    restarts: int = 0
    weights_from: Literal["draw", "champion"] | None = None
    seconds: float = 0.0
    notes: list[str] = []
    digest: str

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were exported."""
        return self.epochs[self.best_epoch]


_MOST_SHOWN = 20  # texts of a domain in a message


class ServedDomain(Record):
    """The values that the schema allows a feature; None: any.

    `low` and `high` bound numbers, `values` lists texts.
    """

    low: float | None = None
    high: float | None = None
    values: list[str] | None = None

    def describe(self) -> str:
        """Describes the domain as the end of "must be ..."."""
        if self.values is not None:
            more = ", …" if len(self.values) > _MOST_SHOWN else ""
            return f"one of {', '.join(sorted(self.values)[:_MOST_SHOWN])}{more}"
        if self.low is not None and self.high is not None:
            return f"from {self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"


class ServedFeature(Record):
    """A feature that clients send: its dtype, as NumPy names it, and the shape of one value.

    None in the shape: any length. `default` are the values, flat, that stand for a feature that a
    client leaves out; None: it must be sent. `domain` are the values that the schema allows; None:
    any. `argument` is what the signature `serving_default` calls it, where TensorFlow does not take
    its name; None: its name.
    """

    name: str
    dtype: str
    shape: list[int | None]
    default: list[int | float | str] | None = None
    domain: ServedDomain | None = None
    argument: str | None = None


class ServedTask(Record):
    """A prediction of a model; `classes` is None for a regression, and 2 for a binary task.

    `temperature` is what the model divides its logits by; None: its probabilities are as it was
    trained.
    """

    name: str
    kind: TaskKind
    classes: int | None = None
    temperature: float | None = None


class ModelContract(Record):
    """The inputs and outputs of a SavedModel; it lies in its `assets.extra/contract.json`.

    `latent` is the length of the latent vector that it gives beside the predictions; None: it gives
    none. `missing` are the words that meant "no value" when it was trained.
    """

    features: list[ServedFeature]
    tasks: list[ServedTask]
    latent: int | None = None
    missing: list[str] = []
