"""Settings of a project: the contents of `project.yaml`.

Every key, its default and its bounds stand here and nowhere else; the JSON schema that editors use
(`schemas/project.schema.json`) is generated from these classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.notices import NoticeKind

SPLITS = ("train", "eval", "test")


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    # As in pydantic: a type checker would take every name for one that there is.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Refuses what a step does not declare; its project has only what it does declare."""
            if name in type(self).model_fields:
                kind = type(self).__name__
                raise AttributeError(
                    f"{kind}.{name} is not declared for this step: add it to "
                    "perennial/step_inputs.py"
                )
            return super().__getattr__(name)


Severity = Literal["warn", "quarantine", "stop"]
OutsideDomain = Literal["count", "flag", "refuse"]
Format = Literal["csv", "jsonl", "parquet", "tfrecord"]
Duplicates = Literal["set_aside", "replace", "keep"]
TaskKind = Literal["binary", "multi_class", "regression"]
Metric = Literal["accuracy", "log_loss", "auc", "mean_absolute_error", "mean_squared_error"]
PretextTask = Literal["none", "rotation", "masked_image", "masked_features", "masked_words"]


def read_delimiter(text: str) -> str:
    r"""Gives the character between the cells of a CSV file; a tab may be written as `\t`.

    Raises:
        ValueError: It cannot stand there.
    """
    delimiter = "\t" if text == "\\t" else text
    allowed = delimiter.isascii() and not delimiter.isalnum() and delimiter not in '"\r\n\0'
    if len(delimiter) == 1 and allowed:
        return delimiter
    raise PydanticCustomError(
        "delimiter",
        "must be one character in quotes, and no letter, digit, quote or line end, such as "
        '";", "|" or "\\t"',
    )


class SplitSettings(Settings):
    """Shares of the examples.

    A hash of its key decides where an example goes, so it never changes its split.
    """

    by: Literal["key", "time"] = Field(
        "key",
        description="key: all three splits by the hash; time: the newest span of the window is "
        "the test split, the older ones are shared between train and eval by the hash.",
    )
    train: float = Field(0.6, gt=0, lt=1, description="Share that weights are fitted on.")
    eval: float = Field(
        0.2, gt=0, lt=1, description="Share for early stopping and for choosing an instance."
    )
    test: float = Field(
        0.2, gt=0, lt=1, description="Share that only the comparison with the champion reads."
    )

    @model_validator(mode="after")
    def _sum_to_one(self) -> SplitSettings:
        """The shares train + eval + test must be 1."""
        total = self.train + self.eval + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + eval + test must be 1. Received: {total:g}")
        return self


class TableSettings(Settings):
    """Spans that are rows of a database."""

    url: str = Field(
        description="SQLAlchemy URL of the database. The environment variable PERENNIAL_TABLE_URL "
        "comes before it."
    )
    table: str | None = Field(
        None, description="Table or view that holds the rows, such as `trips` or `sales.trips`."
    )
    query: str | None = Field(None, description="SELECT that gives the rows, instead of a table.")
    span: str = Field(
        description="Column that names the span of a row: a date, a number or a text."
    )
    version: str | None = Field(
        None,
        description="Column that grows when a row is written again, such as `updated_at`; without "
        "it a span has landed again when its number of rows changed.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> TableSettings:
        """One of table and query must be set."""
        if (self.table is None) == (self.query is None):
            raise ValueError(
                "one of table and query must be set. Received: "
                f"{'both' if self.table else 'neither'}"
            )
        return self


class DataSettings(Settings):
    """Places where labelled data lands, and how much of it a run trains on."""

    spans: str | None = Field(
        None,
        description="Path or URL pattern of the spans, from the project folder; {YYYY}, {MM} and "
        "{DD}, or {SPAN}, name them, {VERSION} their version, and `*` stands for anything.",
    )
    table: TableSettings | None = Field(
        None, description="Database table of the spans, instead of files."
    )
    format: Format | None = Field(
        None, description="Format of the files; none: told by their suffix."
    )
    delimiter: Annotated[str, AfterValidator(read_delimiter)] = Field(
        ",",
        description='Character between the cells of CSV files, such as ";", "|" or "\\t" (a tab), '
        "in quotes: of spans, of `unlabelled`, of `serving_log`, and of what `perennial predict` "
        "scores.",
    )
    max_value_mb: float = Field(
        16.0, gt=0, description="Largest single value that a row may hold, in megabytes."
    )
    missing: list[Annotated[str, Field(min_length=1)]] = Field(
        [],
        description='Words that mean "no value" in every column, such as "NA" and "n/a", exactly '
        "as they are written; requests and batch prediction take them so, too. An empty CSV cell "
        "is always a missing value.",
    )
    unlabelled: str | None = Field(
        None,
        description="Path or URL pattern of files with examples that nobody has labelled yet, for "
        "pretraining; the label and the key may be missing.",
    )
    serving_log: str | None = Field(
        None,
        description="Path or URL pattern of files with the features of served requests, for "
        "training/serving skew.",
    )
    window: int = Field(
        14, ge=1, description="How many of the newest accepted spans a run trains on."
    )
    key: str = Field(description="Feature that identifies an example; its hash decides the split.")
    duplicates: Duplicates = Field(
        "set_aside",
        description="Rows of several spans of the window with the same key. set_aside: the oldest "
        "span's row counts, the others are set aside; replace: the newest span's row counts; keep: "
        "all count, as the key of an example may recur in another span.",
    )
    splits: SplitSettings = SplitSettings()

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        """One of spans and table must be set."""
        if (self.spans is None) == (self.table is None):
            raise ValueError(
                "one of spans and table must be set. Received: "
                f"{'both' if self.spans else 'neither'}"
            )
        return self


class ChecksSettings(Settings):
    """Consequences of a failed check: warn, quarantine the span, or stop the run too.

    A warning stands in the report; without a quarantined span the run goes on.
    """

    readable: Literal["quarantine", "stop"] = Field(
        "quarantine", description="A span that cannot be read."
    )
    columns: Severity = Field(
        "quarantine", description="Columns missing, new, renamed, or in another order."
    )
    rows: Severity = Field(
        "quarantine", description="More rows to set aside than `set_aside` allows."
    )
    duplicates: Severity = Field(
        "quarantine",
        description="A span whose rows other spans of the window have already; or, where the "
        "oldest row counts (`data.duplicates`), more rows than `set_aside` allows whose keys other "
        "spans have with other values.",
    )
    future: Severity = Field(
        "quarantine", description="A span that is named by a date in the future."
    )
    anomalies: Severity = Field(
        "quarantine", description="An anomaly that TFDV finds against the schema."
    )
    expectations: Severity = Field(
        "quarantine",
        description="A broken expectation, unless its own `meta: {severity: ...}` says otherwise.",
    )
    drift: Severity = Field(
        "warn", description="A feature whose distribution changed since earlier spans."
    )
    label_drift: Severity = Field("warn", description="The same of the label.")
    skew: Severity = Field(
        "warn", description="A feature that is distributed otherwise in serving."
    )
    set_aside: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Greatest share of a span's rows that may be set aside one by one.",
    )
    false_alarms: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Chance of any drift alarm on a span in which nothing changed; schema.pbtxt "
        "may set thresholds.",
    )


BeamRunner = Literal[
    "DirectRunner", "PortableRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"
]


class BeamSettings(Settings):
    """Apache Beam, which ingests, measures, analyses and transforms."""

    runner: BeamRunner = Field(
        "DirectRunner",
        description="DirectRunner works in the step's process; PortableRunner is any job service. "
        "Workers on other machines read and write `root`, which must be a URL then, and landed "
        "files by URLs.",
    )
    options: list[str] = Field(
        default=["--direct_running_mode=in_memory"],
        description="Pipeline options of Beam and of the runner, each as `--name=value`.",
    )

    @property
    def arguments(self) -> list[str]:
        """Gives the pipeline options with the runner."""
        return [f"--runner={self.runner}", *self.options]


TaskOutputForm = Literal["auto", "probabilities", "logits"]
LabelSource = Literal["auto", "preprocessing_fn"]


class TaskSettings(Settings):
    """One thing that the model predicts."""

    name: str = Field(
        "prediction",
        pattern=r"^[a-z][a-z0-9_]{0,30}$",
        description="Name of the task, and of the model's output.",
    )
    kind: TaskKind = Field(
        "multi_class",
        description="binary: 0 or 1, the model gives one probability; multi_class: a class number "
        "from 0, the model gives a probability for each; regression: a number.",
    )
    label: str | None = Field(
        None,
        description="Feature that `preprocessing_fn` returns as the label; none: the project's "
        "`label` as it is.",
    )
    label_from: LabelSource = Field(
        "auto",
        description="preprocessing_fn: it returns the label, also where that has the name of the "
        "landed one, whose values are then not checked; auto: a label of the project's `label` is "
        "learned from as it landed.",
    )
    example_weight: str | None = Field(
        None,
        description="Feature of the schema that says how much an example counts, as it landed: in "
        "the loss (of `run_fn`, in the module's own), and in the metrics and intervals that the "
        "gate reads. None: all count the same.",
    )
    weight: float = Field(1.0, gt=0, description="Weight of the task's loss beside the others'.")
    output: TaskOutputForm = Field(
        "auto",
        description="What the module's model gives for classes. probabilities; logits: a sigmoid "
        "or a softmax is put into the served model; auto: of a model of `run_fn`, logits where the "
        "eval split has values outside [0, 1] or classes that do not sum to 1, and the report says "
        "so; of `build_model`, probabilities, as training needs them.",
    )


class ModelSettings(Settings):
    """The user's TFX-style module, and what its model predicts."""

    module: str = Field(
        "model.py",
        description="Python file in the project folder, or the name of an importable module, with "
        "`preprocessing_fn` and either `build_model` or TFX's `run_fn`.",
    )
    files: list[str] = Field(
        default=[],
        description="Files that the module opens by names which it computes, as patterns from its "
        "folder such as `words/*.txt`: an edit of one trains again. What the module imports, and "
        "what a text in it names, counts anyway.",
    )
    calibration: Literal["none", "temperature"] = Field(
        "none",
        description="temperature: probabilities are softened or sharpened inside the served "
        "model, by one number fitted on the eval split.",
    )
    tasks: list[TaskSettings] = Field(
        default=[TaskSettings()],
        min_length=1,
        description="What the model predicts; the gate reads the first, metrics are measured for "
        "all.",
    )
    latent: str | None = Field(
        None,
        description="Layer whose output is served as the latent vector; none: what the model "
        "itself names `latent`, or what its last layer with weights reads.",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> ModelSettings:
        """Names of tasks must differ."""
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names) or "latent" in names:
            raise ValueError(
                f"names of tasks must differ, and none be `latent`. Received: {', '.join(names)}"
            )
        return self


class RunFnSettings(Settings):
    """Arguments of TFX's `run_fn(fn_args)`; a module with `build_model` does not read them."""

    train_steps: int | None = Field(
        None,
        ge=1,
        description="`fn_args.train_steps`; none: `train.epochs` passes in batches of "
        "`train.batch_size`.",
    )
    eval_steps: int | None = Field(
        None,
        ge=1,
        description="`fn_args.eval_steps`; none: one pass in batches of `train.batch_size`.",
    )
    custom_config: dict[str, Any] = Field(
        default_factory=dict, description="`fn_args.custom_config`, as it stands."
    )


class PretextSettings(Settings):
    """Pretraining without labels, on the train split and on `data.unlabelled`.

    The weights below the tasks go on.
    """

    task: PretextTask = Field(
        "none",
        description="rotation: by how many quarter turns an image is turned; masked_image, "
        "masked_features, masked_words: what stood where it was masked.",
    )
    feature: str | None = Field(
        None,
        description="Transformed feature that holds the image [height, width, channels] or "
        "[height * width], or the words (numbers of a vocabulary, 0: none); none: the only one "
        "that fits.",
    )
    epochs: int = Field(5, ge=1, description="Passes over the examples.")
    share: float = Field(0.15, gt=0, lt=1, description="Share that is masked.")


class StabiliseSettings(Settings):
    """Short trainings over several draws of initial weights, before anything is tuned."""

    draws: int = Field(3, ge=1, description="How many draws of initial weights are tried.")
    steps: int = Field(
        30,
        ge=2,
        description="Training steps for each draw; the learning rate warms up over the first half.",
    )


class TuneSettings(Settings):
    """The search for hyperparameters (KerasTuner); without a budget there is none.

    It starts from the stabilised weights.
    """

    trials: int | None = Field(None, ge=1, description="Budget: how many trials at the most.")
    minutes: float | None = Field(
        None, gt=0, description="Budget: no trial begins after so many minutes."
    )
    algorithm: Literal["random", "bayesian"] = Field(
        "bayesian", description="How the next trial is chosen."
    )
    epochs: int = Field(
        5, ge=1, description="Passes over the training split in each trial, at the most."
    )
    learning_rate: tuple[float, float] | None = Field(
        None,
        description="Least and greatest learning rate that is tried; none: it is not searched.",
    )
    batch_size: list[int] = Field(
        default_factory=list, description="Batch sizes that are tried; none: not searched."
    )
    best: int = Field(
        1, ge=1, description="How many of the best hyperparameters the instances are shared among."
    )
    max_age_days: float = Field(
        30,
        gt=0,
        description="Later runs use what was found for so long, unless a feature or the label "
        "drifted.",
    )

    @property
    def enabled(self) -> bool:
        """Tells whether there is a budget."""
        return self.trials is not None or self.minutes is not None

    @model_validator(mode="after")
    def _bounds_in_order(self) -> TuneSettings:
        """Bounds of the learning rate must be above 0 and in order, batch sizes at least 1."""
        if self.learning_rate and not 0 < self.learning_rate[0] < self.learning_rate[1]:
            raise ValueError(
                "learning_rate must be [least, greatest] above 0. Received: "
                f"{list(self.learning_rate)}"
            )
        if any(size < 1 for size in self.batch_size):
            raise ValueError(
                f"batch_size must hold sizes of at least 1. Received: {self.batch_size}"
            )
        return self


class DesignSettings(Settings):
    """Comparison of the module's `design_spaces()` by how their errors are distributed."""

    compare: bool = Field(False, description="Whether runs compare them.")
    samples: int = Field(20, ge=5, description="Models sampled from each space.")
    epochs: int = Field(3, ge=1, description="Passes over the training split for each model.")


class TrainSettings(Settings):
    """The training loop."""

    instances: int = Field(
        2, ge=1, description="Instances trained in each run, with different seeds."
    )
    epochs: int = Field(30, ge=1, description="Passes over the training split, at the most.")
    batch_size: int = Field(
        32, ge=1, description="Examples in one global batch, over all replicas and workers."
    )
    learning_rate: float = Field(0.003, gt=0, description="Adam's learning rate.")
    base_batch_size: int | None = Field(
        None,
        ge=1,
        description="Batch size that the learning rate was chosen for; the rate grows in "
        "proportion with another batch size. None: the rate is as set.",
    )
    patience: int = Field(
        5, ge=1, description="Epochs without a lower eval loss before training stops."
    )
    balance: Literal["none", "class_weights", "resample"] = Field(
        "none",
        description="How rare classes of the first task count more: by their loss, or by being "
        "shown more often.",
    )
    strategy: Literal["one_device", "mirrored", "multi_worker", "tpu"] = Field(
        "one_device",
        description="tf.distribute strategy: one device; a replica on every local device; a "
        "replica on each of `workers` workers (of TF_CONFIG, where that is set); "
        "the cores of a TPU.",
    )
    workers: int = Field(
        2,
        ge=1,
        description="Workers of strategy multi_worker: processes of this machine, or on a cluster "
        "pods of a TrainJob.",
    )
    restarts: int = Field(
        3, ge=0, description="How often workers are started again after one of them died."
    )
    device: Literal["any", "cpu", "gpu"] = Field(
        "any", description="any: GPUs where there are some, else the CPU."
    )
    tpu: str = Field("", description="Name or address of the TPU; empty: the one of this machine.")
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="Precision of the layers' computations; weights are always float32."
    )
    xla: bool = Field(False, description="Compile the training step with XLA.")
    steps_per_execution: int = Field(
        16, ge=1, description="Training steps in one call of the compiled step."
    )
    checkpoint_steps: int | None = Field(
        None, ge=1, description="Steps between checkpoints; none: one after each epoch."
    )
    cache_mb: int = Field(
        1024,
        ge=0,
        description="Examples are kept in memory when their files are smaller than this, in "
        "megabytes.",
    )
    seed: int = Field(
        17, ge=1, description="Seed of the first instance and of the first weight draw."
    )

    @property
    def on_workers(self) -> bool:
        """Tells whether instances train in processes of their own, which a cluster places."""
        return self.strategy in ("multi_worker", "tpu")


class PatchSettings(Settings):
    """Instances that start from the champion's weights, beside those that start anew."""

    instances: int = Field(0, ge=0, description="Instances that start from the champion; 0: none.")
    shrink: float = Field(0.6, gt=0, le=1, description="Factor of the champion's weights.")
    perturb: float = Field(0.01, ge=0, description="Factor of the fresh draw that is added.")
    warm_up_steps: int = Field(
        50, ge=0, description="Steps over which their learning rate rises to its value."
    )


class FairnessSettings(Settings):
    """Comparison of scores and error rates between the groups that a feature's values make."""

    features: list[str] = Field(
        default_factory=list, description="Features whose values are the groups."
    )
    least_examples: int = Field(
        50,
        ge=10,
        description="Groups with fewer test examples are not compared; the report names them.",
    )
    gap: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Gap between a group and the rest that is tolerated: of error rates, and of "
        "score distributions (Kolmogorov-Smirnov distance).",
    )
    false_alarms: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Chance that any of the tests flags groups which do not differ.",
    )


class CovariateSettings(Settings):
    """Probes for features that the model must not have learned, such as a scanner's name.

    These are hidden covariates.
    """

    features: list[str] = Field(default_factory=list, description="Suspect features.")
    repeats: int = Field(30, ge=10, description="Permutations that show what chance gives.")
    false_alarms: float = Field(
        0.02, gt=0, lt=0.5, description="Chance that an innocent feature is flagged."
    )


class ExplainSettings(Settings):
    """Features that the candidate's answers rest on."""

    examples: int = Field(
        500, ge=0, description="Test examples that explanations are computed from; 0: none is."
    )
    repeats: int = Field(5, ge=2, description="Permutations of each feature for its importance.")
    steps: int = Field(
        32, ge=8, description="Steps of the path that gradients are integrated along."
    )
    single: int = Field(
        5, ge=0, description="Single examples that are explained, the worst mistakes first."
    )


class EvaluateSettings(Settings):
    """Measures on the test split, beside the overall metrics."""

    slices: list[str] = Field(
        default_factory=list, description="Features by whose values the metrics are sliced."
    )
    crosses: list[list[str]] = Field(
        default_factory=list,
        description="Features sliced by their values together, such as [[label, camera]].",
    )
    least_examples: int = Field(
        30,
        ge=2,
        description="Slices with fewer test examples are shown without an interval, and not "
        "judged.",
    )
    group: str | None = Field(
        None,
        description="Feature whose equal values mark examples that belong together, such as a "
        "patient: intervals resample whole groups.",
    )
    serving: Literal["none", "label_shift", "covariate_shift"] = Field(
        "none",
        description="How metrics are re-weighted to what serving sees (`data.serving_log`): "
        "label_shift where classes became more or less frequent, covariate_shift where features "
        "did.",
    )
    least_effective: float = Field(
        100,
        gt=1,
        description="Effective number of test examples below which re-weighting is refused.",
    )
    former_days: float = Field(
        90,
        ge=0,
        description="Champions of so many days are compared with the one that serves, on today's "
        "test examples: a better one is a warning. 0: none is.",
    )
    fairness: FairnessSettings = FairnessSettings()
    covariates: CovariateSettings = CovariateSettings()
    explain: ExplainSettings = ExplainSettings()

    @model_validator(mode="after")
    def _crosses_cross(self) -> EvaluateSettings:
        """A cross must name at least two different features."""
        for cross in self.crosses:
            if len(set(cross)) < max(2, len(cross)):
                raise ValueError(
                    f"crosses must each name two or more different features. Received: {cross}"
                )
        return self


class FeatureSettings(Settings):
    """Facts of one feature beside its schema."""

    cost: float = Field(
        0.0, ge=0, description="What it costs to acquire for one example, in any one unit."
    )


class GateSettings(Settings):
    """Conditions on which a candidate replaces the champion."""

    metric: Metric = Field(
        "accuracy",
        description="Primary metric, of the first task: accuracy or log_loss of classes, auc of a "
        "binary task, mean_absolute_error or mean_squared_error of values.",
    )
    mode: Literal["better", "not_worse"] = Field(
        "better",
        description="better: the interval of the improvement lies above zero; not_worse: it lies "
        "above -margin.",
    )
    margin: float = Field(
        0.0, ge=0, description="Loss of the primary metric that not_worse tolerates."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the paired interval.")
    distribution: Literal["test", "serving"] = Field(
        "test",
        description="Which examples decide: the test split as it is, or re-weighted to serving "
        "(`evaluate.serving`).",
    )
    floors: dict[Metric, float] = Field(
        default_factory=dict,
        description="Worst values that may serve, by metric of the first task: least accuracy or "
        "auc, greatest loss or error.",
    )
    trivial: Literal["warn", "block"] = Field(
        "block",
        description="What a first candidate does that is not shown to be better than the best "
        "constant answer, such as always the most frequent class. With a champion that only warns.",
    )
    slice_loss: float | None = Field(
        None,
        ge=0,
        description="Loss of the primary metric on a slice or view that is tolerated; more than "
        "that, where it is more than chance, keeps the champion. None: slices do not decide.",
    )
    newest_span: Literal["warn", "block"] = Field(
        "warn",
        description="What a fall of the primary metric on the newest span does: of the champion, "
        "or of the first candidate, beside the older spans of the window.",
    )
    newest_fall: float = Field(
        0.05,
        ge=0,
        description="Fall that is tolerated: of accuracy or auc as it is, of a loss or error as a "
        "share of what it is on the older spans.",
    )
    fairness: Literal["warn", "block"] = Field("warn", description="What a flagged group does.")
    covariates: Literal["warn", "block"] = Field(
        "warn", description="What a flagged suspect feature does."
    )
    repeats: int = Field(
        0,
        ge=0,
        le=20,
        description="How often a run whose candidate was not good enough is repeated with other "
        "draws; the intervals are widened for it.",
    )

    @model_validator(mode="after")
    def _margin_needs_mode(self) -> GateSettings:
        """A margin is read only with mode not_worse."""
        if self.mode == "better" and self.margin:
            raise ValueError(
                "margin is read only with mode: not_worse. Received: mode better with margin "
                f"{self.margin:g}"
            )
        return self


class LedgerSettings(Settings):
    """Place of the append-only record."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL, `sqlite:///PATH` for SQLite; none: SQLite inside the state "
        "folder. The environment variable PERENNIAL_LEDGER_URL comes before it.",
    )


class RegistrySettings(Settings):
    """Place of the model versions."""

    uri: str | None = Field(
        None,
        description="MLflow tracking URI; none: SQLite inside the state folder. The environment "
        "variable PERENNIAL_REGISTRY_URI comes before it.",
    )


class LogSettings(Settings):
    """The prediction log: what the server was asked and answered, as Parquet by date."""

    enabled: bool = Field(
        False,
        description="Whether the server logs its requests and answers, in `predictions/` of the "
        "root.",
    )
    seconds: float = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="A new file is made visible so often; a killed server loses at most the rows "
        "of so many seconds.",
    )
    rows: int = Field(50_000, ge=1, description="A file that holds so many rows is not waited for.")
    memory_mb: float = Field(
        64.0,
        gt=0,
        description="Most memory that rows may take which are not written yet, in megabytes; what "
        "is above it is dropped, and counted.",
    )
    sample: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the requests that is logged, drawn at random; each row holds it as "
        "`chance`.",
    )
    days: int = Field(90, ge=1, description="Rows older than so many days are removed.")
    dropped: list[str] = Field([], description="Features that are not logged.")
    hashed: list[str] = Field(
        [],
        description="Features that are logged as their HMAC-SHA256; `data.key` stands for the "
        "column `key`, too.",
    )
    secret: str | None = Field(
        None,
        description="Name of the environment variable that holds the secret of `hashed`; "
        "`perennial forget` and the join of labels need it, too.",
    )

    @model_validator(mode="after")
    def _hashes_need_a_secret(self) -> LogSettings:
        """Hashes need a secret, and no feature is both dropped and hashed."""
        if self.hashed and not self.secret:
            raise ValueError(
                "secret must name an environment variable, as hashes without a secret can be "
                f"guessed. Received: none, with hashed: {', '.join(self.hashed)}"
            )
        if both := sorted(set(self.hashed) & set(self.dropped)):
            raise ValueError(
                f"a feature must be dropped or hashed. Received: {', '.join(both)} in both"
            )
        return self


class TlsSettings(Settings):
    """TLS of the model server, over HTTP and gRPC; changed files serve the next connection."""

    certificate: str = Field(
        description="File of the certificate in PEM, with those between it and its authority."
    )
    key: str = Field(description="File of its private key in PEM, without a password.")


class LimitSettings(Settings):
    """Limits of one request, and of one token's requests together, to the model server."""

    body_mb: float = Field(
        16.0, gt=0, le=1024, description="Largest body of a request; a larger one is HTTP 413."
    )
    instances: int = Field(
        65_536, ge=1, description="Most instances in a request; more are HTTP 400."
    )
    depth: int = Field(
        32, ge=4, le=512, description="Deepest nesting of a request's JSON; deeper is HTTP 400."
    )
    requests_per_second: float | None = Field(
        None,
        gt=0,
        description="Requests that each token may send in a second, on average; more are HTTP 429. "
        "Without tokens all clients share it; none: any number.",
    )
    burst: int = Field(
        100, ge=1, description="Requests that a token may send at once, ahead of that average."
    )


class ServingSettings(Settings):
    """The model server, and what it shares with batch prediction."""

    port: int = Field(8080, ge=1, le=65535, description="HTTP port of `perennial serve`.")
    grpc_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the Open Inference Protocol over gRPC; none: there is no gRPC.",
    )
    poll_seconds: float = Field(
        1.0, gt=0, le=2, description="How often the server looks for a new deployment."
    )
    outside_domain: OutsideDomain = Field(
        "flag",
        description="What becomes of a value outside the feature's domain in schema.pbtxt: `count` "
        "it and answer, `flag` it in the answer too, or `refuse` the request (in a batch: the "
        "row).",
    )
    log: LogSettings = LogSettings()
    tokens: str | None = Field(
        None,
        description="File of the bearer tokens that `perennial token add` writes; none: "
        "`tokens.json` in the state folder, if it is there. Without the file the server listens on "
        "loopback only. The environment variable PERENNIAL_TOKEN_FILE comes before it.",
    )
    tls: TlsSettings | None = Field(None, description="TLS by files; none: plain HTTP and gRPC.")
    limits: LimitSettings = LimitSettings()
    batching: bool = Field(
        True,
        description="Whether requests that arrive together share a call of the model, which then "
        "takes 16, 64, 256 or 1,024 rows; switch it off for a model whose call costs more for 16 "
        "rows than for one.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> ServingSettings:
        """The two ports must differ."""
        if self.grpc_port == self.port:
            raise ValueError(
                f"grpc_port must be another than port. Received: {self.grpc_port} for both"
            )
        return self


class ABSettings(Settings):
    """The A/B test: when the challenger is promoted, and when it is taken back."""

    metric: Literal["accuracy", "brier", "absolute_error"] | None = Field(
        None,
        description="What is compared on each labelled answer, of the first task: `accuracy` or "
        "`brier` (squared error of the probabilities, at most 1) of classes, `absolute_error` of "
        "values; none: accuracy of classes, absolute_error of values.",
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Of each decision, at however many looks: a challenger that is not better is "
        "promoted, and one that is not worse taken back, with at most the rest as a chance.",
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="The challenger is promoted when it is better by more than this for certain.",
    )
    harm: float = Field(
        0.0, ge=0, description="It is taken back when it is worse by more than this for certain."
    )
    least_units: int = Field(
        100,
        ge=1,
        description="Labelled keys (or groups, `evaluate.group`) that each version must have "
        "before a promotion; harm does not wait for them.",
    )
    max_days: float = Field(
        14.0,
        gt=0,
        description="A test that has not decided by then ends, and the champion stays; "
        "`perennial ab start --days` sets it for one test.",
    )
    slow_ms: float = Field(100.0, gt=0, description="An answer that takes longer is slow.")
    slow_allowed: float = Field(
        0.01,
        ge=0,
        le=1,
        description="How much larger the challenger's share of slow answers may be: more, for "
        "certain, and it is taken back.",
    )
    failed_allowed: float = Field(
        0.01,
        ge=0,
        le=1,
        description="The same of answers that failed: without scores, or with scores that are not "
        "numbers.",
    )


class RunnerSettings(Settings):
    """Commands on one machine."""

    warm: bool = Field(
        True,
        description="Whether commands share a process that has imported all libraries and stays "
        "when they end; `PERENNIAL_WARM=off` switches it off for one command.",
    )
    warm_minutes: float = Field(
        15.0, gt=0, description="How long that process stays when nobody uses it."
    )
    at_once: int | None = Field(
        None,
        ge=1,
        description="How many tasks of a run may work at the same time; none: one for each "
        "processor, as far as 2 GB of free memory are there for each.",
    )
    lease_seconds: float = Field(
        60.0,
        ge=1,
        description="How long the lease of a run lasts after its process last showed that it is "
        "alive; then another run may take over. One that is certainly gone is not waited for.",
    )


_ADDRESS = r"^[^@\s<>,;]+@[^@\s<>,;]+$"


def _target_name() -> Any:
    return Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Its name in the ledger: the messages that it had are known by it.",
    )


def _variable(description: str, default: Any = ...) -> Any:
    return Field(default, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description=description)


class RetrainSettings(Settings):
    """Settings of what makes a run due, for `perennial watch`."""

    schedule: str | None = Field(
        None,
        description="When a run is due, as cron's five fields, such as `30 3 * * 1-5`; none: no "
        "schedule.",
    )
    time_zone: str = Field("UTC", description="Time zone of the schedule, such as `Europe/Berlin`.")
    without_new_data: bool = Field(
        False, description="Whether a scheduled run trains even though nothing new has landed."
    )
    landings: bool = Field(
        True, description="Whether new data makes a run due, as soon as it has landed whole."
    )
    new_labels: int | None = Field(
        None,
        ge=1,
        description="New data makes a run due only once it has so many rows together; none: any.",
    )
    cool_down_minutes: float = Field(
        0.0,
        ge=0,
        description="How long after the end of a run the next one is not begun, whatever is due; "
        "by hand it is.",
    )


class WatchSettings(Settings):
    """`perennial watch`."""

    poll_seconds: float = Field(
        2.0,
        gt=0,
        description="How often it looks at the landing place and the ledger. A file must be the "
        "same at two looks before it counts as landed.",
    )
    judge_seconds: float = Field(
        60.0,
        gt=0,
        description="How often a running A/B test is judged, as by `perennial ab judge`; looking "
        "costs no error.",
    )


class WebhookSettings(Settings):
    """A receiver of signed JSON messages (Standard Webhooks)."""

    name: str = _target_name()
    url_variable: str = _variable("Environment variable that holds its URL.")
    secret_variable: str = _variable(
        "Environment variable that holds the secret it is signed with: `whsec_` and base64."
    )


class SlackSettings(Settings):
    """An incoming webhook of Slack, or of what reads its format."""

    name: str = _target_name()
    url_variable: str = _variable("Environment variable that holds its URL, which is secret.")


class MailSettings(Settings):
    """Messages by e-mail, through a mail server (SMTP)."""

    name: str = _target_name()
    host: str = Field(min_length=1, description="The mail server.")
    port: int = Field(587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="starttls: encrypted after the greeting; tls: from the first byte; none: not, "
        "for a server on this machine.",
    )
    sender: str = Field(pattern=_ADDRESS, description="Address that messages come from.")
    to: list[Annotated[str, Field(pattern=_ADDRESS)]] = Field(
        min_length=1, description="Addresses that they go to."
    )
    user_variable: str | None = _variable(
        "Environment variable that holds the account's name; none: no log-in.", None
    )
    password_variable: str | None = _variable(
        "Environment variable that holds the account's password.", None
    )

    @model_validator(mode="after")
    def _account_is_whole(self) -> MailSettings:
        """An account has a name and a password, and never goes over the network in the clear."""
        if (self.user_variable is None) != (self.password_variable is None):
            raise ValueError(
                "user_variable and password_variable must both be set, or neither. Received: one"
            )
        if self.user_variable is not None and self.security == "none":
            raise ValueError("security must not be none with a password. Received: none")
        return self


class MessagesSettings(Settings):
    """Messages when a night ends badly."""

    webhooks: list[WebhookSettings] = Field(
        default_factory=list, description="Receivers of signed JSON."
    )
    slack: list[SlackSettings] = Field(default_factory=list, description="Slack's webhooks.")
    mail: list[MailSettings] = Field(default_factory=list, description="E-mail.")
    about: list[NoticeKind] = Field(
        default_factory=lambda: list(get_args(NoticeKind)),
        description="What they are about: a run that failed, data_rejected, spans that were "
        "quarantined, kept_champion again and again, a version that was rolled_back, runs that are "
        "overdue.",
    )
    kept_champion: int = Field(
        3, ge=1, description="After how many runs in a row that kept the champion one is sent."
    )
    overdue_hours: float | None = Field(
        None,
        gt=0,
        description="A run is overdue when none has come to its end without failing for so long; "
        "none: runs are never overdue.",
    )
    digest_minutes: float = Field(
        10.0,
        ge=0,
        description="After a message, what else happens within this time goes as one message.",
    )
    give_up_hours: float = Field(
        24.0,
        gt=0,
        description="A message that no attempt delivered for so long goes to the file of dead "
        "letters in the state folder.",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> MessagesSettings:
        """The names of targets must differ."""
        names = [
            *(each.name for each in self.webhooks),
            *(each.name for each in self.slack),
            *(each.name for each in self.mail),
        ]
        if len(set(names)) < len(names):
            raise ValueError(f"targets must have different names. Received: {', '.join(names)}")
        return self


class TolerationSettings(Settings):
    """A taint of nodes that the pods of steps put up with."""

    key: str = Field(min_length=1, description="Key of the taint, such as `nvidia.com/gpu`.")
    value: str | None = Field(None, description="Its value; none: any.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Its effect; none: all."
    )


class ReferenceSettings(Settings):
    """A secret or config map of the namespace; its values are never in the compiled pipeline."""

    name: str = Field(min_length=1, description="Its name.")
    variables: dict[str, str] = Field(
        default_factory=dict,
        description="Environment variables of every step by its keys, such as "
        "`{ledger-url: PERENNIAL_LEDGER_URL}`.",
    )
    folder: str | None = Field(
        None, description="Absolute folder in which every step finds its keys as files."
    )

    @model_validator(mode="after")
    def _is_used(self) -> ReferenceSettings:
        """One of variables and folder must be set."""
        if not self.variables and self.folder is None:
            raise ValueError("variables or folder must be set. Received: neither")
        return self


class VolumeSettings(Settings):
    """A volume that every step mounts."""

    claim: str = Field(min_length=1, description="Name of its PersistentVolumeClaim.")
    folder: str = Field(pattern="^/", description="Absolute folder that it is mounted at.")


class ResourceSettings(Settings):
    """Needs of one class of steps."""

    cpu: str | None = Field(
        None, pattern=r"^\d+(\.\d+)?m?$", description="Processors, such as `2` or `500m`."
    )
    memory: str | None = Field(
        None,
        pattern=r"^\d+(\.\d+)?([KMGT]i?)?$",
        description="Memory that a step asks for and may not exceed, such as `4Gi`.",
    )
    accelerator: str | None = Field(
        None, description="Resource of an accelerator, such as `nvidia.com/gpu`."
    )
    accelerators: int = Field(1, ge=1, description="How many of them.")
    node_selector: dict[str, str] = Field(
        default_factory=dict,
        description="Labels of the nodes, such as GKE's `cloud.google.com/gke-tpu-accelerator` and "
        "`cloud.google.com/gke-tpu-topology`.",
    )
    tolerations: list[TolerationSettings] = Field(
        default_factory=list, description="Taints of the nodes that their pods put up with."
    )


class KubeflowSettings(Settings):
    """Kubeflow Pipelines: where it answers, and what the compiled pipeline needs of a cluster."""

    endpoint: str | None = Field(
        None,
        description="URL of Kubeflow Pipelines, such as `https://kubeflow.example/pipeline`. The "
        "environment variable PERENNIAL_KUBEFLOW_ENDPOINT comes before it; none: as kfp.Client "
        "finds it, by KF_PIPELINES_ENDPOINT, inside the cluster, or through kubectl's settings.",
    )
    namespace: str | None = Field(
        None,
        description="Namespace of runs, where the installation has several users. The environment "
        "variable PERENNIAL_KUBEFLOW_NAMESPACE comes before it.",
    )
    experiment: str | None = Field(
        None, description="Experiment that runs belong to; none: the name of the project."
    )
    service_account: str | None = Field(
        None, description="Kubernetes service account of runs; none: the installation's own."
    )
    ca_file: str | None = Field(
        None,
        description="Certificates that the endpoint's is checked with, from the project folder; "
        "none: those that browsers trust.",
    )
    time_zone: str = Field(
        "UTC",
        description="Time zone of the installation's schedules, its CRON_SCHEDULE_TIMEZONE; "
        "`perennial schedule set` converts to it.",
    )
    image: str | None = Field(
        None,
        pattern=r"^[^\s@]+(@sha256:[0-9a-f]{64}|:\w[\w.-]*)$",
        description="Image of every step, by its digest (`NAME@sha256:…`) or by a tag, which can "
        "come to mean another image: `perennial compile` warns. The environment variable "
        "PERENNIAL_KUBEFLOW_IMAGE comes before it; none: perennial with this version's tag.",
    )
    project: str | None = Field(
        None,
        description="Path of the project folder inside the image or a mounted volume, which steps "
        "read in the place of the package that `perennial submit` and `schedule set` store in the "
        "root; none: the package.",
    )
    retries: int = Field(2, ge=0, le=10, description="Further attempts of a task whose pod failed.")
    task_minutes: int = Field(
        720, ge=1, description="A task that takes longer is ended; each attempt counts anew."
    )
    run_minutes: int = Field(
        1440,
        ge=1,
        description="A run that takes longer is ended by its tasks, which say so; half an hour "
        "later by the cluster.",
    )
    lease_minutes: float = Field(
        60,
        gt=0,
        le=1440,
        description="The next run may take over from one of whose tasks none has shown a sign of "
        "life for so long. Pods that wait for a node show none.",
    )
    parallelism: int | None = Field(
        None,
        ge=1,
        description="How many spans are prepared, and how many instances trained, at the same "
        "time; none: as many as there are.",
    )
    secrets: list[ReferenceSettings] = Field(
        default_factory=list, description="Secrets that every step has."
    )
    config_maps: list[ReferenceSettings] = Field(
        default_factory=list, description="Config maps that every step has."
    )
    volumes: list[VolumeSettings] = Field(
        default_factory=list, description="Volumes that every step mounts."
    )
    training_runtime: str = Field(
        "perennial-training",
        min_length=1,
        description="TrainingRuntime of the namespace that a TrainJob refers to; see "
        "docs/kubernetes.md.",
    )
    image_pull_secrets: list[str] = Field(
        default_factory=list, description="Names of the secrets that the image is pulled with."
    )
    light: ResourceSettings = Field(
        ResourceSettings(cpu="500m", memory="2Gi"),
        description="Steps that read and write records: select_spans, decide_promotion, "
        "register_model, push_model, conclude_run.",
    )
    data: ResourceSettings = Field(
        ResourceSettings(cpu="2", memory="8Gi"),
        description="Steps that read examples: prepare_span, validate_data, analyse_features, "
        "transform_features, evaluate_model, probe_model, validate_serving.",
    )
    training: ResourceSettings = Field(
        ResourceSettings(cpu="4", memory="16Gi"),
        description="Steps that train: compare_designs, pretrain_learner, stabilise_weights, "
        "tune_model, train_model.",
    )


class ProjectSettings(Settings):
    """The whole of `project.yaml`."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="Name of the model in the registry and in URLs: lower-case letters, digits "
        "and hyphens.",
    )
    label: str = Field(
        description="Feature that the model predicts or learns from; clients never send it. See "
        "`model.tasks`."
    )
    state: str = Field(
        ".perennial",
        description="Folder of this machine for the embedded ledger and registry, runs and scratch "
        "files. The environment variable PERENNIAL_STATE comes before it.",
    )
    root: str | None = Field(
        None,
        description="Where results of steps are kept, in a folder named after the project: a "
        "folder, or a URL that fsspec has a driver for, such as `s3://bucket/path`; none: the "
        "state folder. The environment variable PERENNIAL_ROOT comes before it.",
    )
    data: DataSettings
    checks: ChecksSettings = ChecksSettings()
    beam: BeamSettings = BeamSettings()
    model: ModelSettings = ModelSettings()
    run_fn: RunFnSettings = RunFnSettings()
    pretext: PretextSettings = PretextSettings()
    stabilise: StabiliseSettings = StabiliseSettings()
    tune: TuneSettings = TuneSettings()
    designs: DesignSettings = DesignSettings()
    train: TrainSettings = TrainSettings()
    patch: PatchSettings = PatchSettings()
    features: dict[str, FeatureSettings] = Field(
        default_factory=dict, description="Features by name, such as `amount: {cost: 0.2}`."
    )
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings()
    ledger: LedgerSettings = LedgerSettings()
    registry: RegistrySettings = RegistrySettings()
    serving: ServingSettings = ServingSettings()
    ab: ABSettings = ABSettings()
    runner: RunnerSettings = RunnerSettings()
    retrain: RetrainSettings = RetrainSettings()
    watch: WatchSettings = WatchSettings()
    messages: MessagesSettings = MessagesSettings()
    kubeflow: KubeflowSettings = KubeflowSettings()
