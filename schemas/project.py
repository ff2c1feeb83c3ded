"""Settings of a project: the contents of `project.yaml`.

Every key, its default and its bounds stand here and nowhere else; the JSON schema that editors use
(`schemas/project.schema.json`) is generated from these classes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SPLITS = ("train", "eval", "test")


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Severity = Literal["warn", "quarantine", "stop"]
Format = Literal["csv", "jsonl", "parquet", "tfrecord"]


class SplitSettings(Settings):
    """Shares of the examples. A hash of its key decides where an example goes, so it never changes its split."""

    by: Literal["key", "time"] = Field(
        "key",
        description="key: all three splits by the hash; time: the newest span of the window is the test split, the "
        "older ones are shared between train and eval by the hash.",
    )
    train: float = Field(0.6, gt=0, lt=1, description="Share that weights are fitted on.")
    eval: float = Field(0.2, gt=0, lt=1, description="Share for early stopping and for choosing an instance.")
    test: float = Field(0.2, gt=0, lt=1, description="Share that only the comparison with the champion reads.")

    @model_validator(mode="after")
    def _sum_to_one(self) -> SplitSettings:
        """The shares train + eval + test must be 1."""
        total = self.train + self.eval + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + eval + test must be 1. Received: {total:g}")
        return self


class TableSettings(Settings):
    """Spans that are rows of a database."""

    url: str = Field(description="SQLAlchemy URL of the database.")
    table: str | None = Field(None, description="Table or view that holds the rows, such as `trips` or `sales.trips`.")
    query: str | None = Field(None, description="SELECT that gives the rows, instead of a table.")
    span: str = Field(description="Column that names the span of a row: a date, a number or a text.")
    version: str | None = Field(
        None,
        description="Column that grows when a row is written again, such as `updated_at`; without it a span has landed "
        "again when its number of rows changed.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> TableSettings:
        """One of table and query must be set."""
        if (self.table is None) == (self.query is None):
            raise ValueError(f"one of table and query must be set. Received: {'both' if self.table else 'neither'}")
        return self


class DataSettings(Settings):
    """Where labelled data lands and how much of it a run trains on."""

    spans: str | None = Field(
        None,
        description="Path or URL pattern of the spans, from the project folder; {YYYY}, {MM} and {DD}, or {SPAN}, name "
        "them, {VERSION} their version, and `*` stands for anything.",
    )
    table: TableSettings | None = Field(None, description="Database table of the spans, instead of files.")
    format: Format | None = Field(None, description="Format of the files; none: told by their suffix.")
    max_value_mb: float = Field(16.0, gt=0, description="Largest single value that a row may hold, in megabytes.")
    serving_log: str | None = Field(
        None,
        description="Path or URL pattern of files with the features of served requests, for training/serving skew.",
    )
    window: int = Field(14, ge=1, description="How many of the newest accepted spans a run trains on.")
    key: str = Field(description="Feature that identifies an example; its hash decides the split.")
    splits: SplitSettings = SplitSettings()

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        """One of spans and table must be set."""
        if (self.spans is None) == (self.table is None):
            raise ValueError(f"one of spans and table must be set. Received: {'both' if self.spans else 'neither'}")
        return self


class ChecksSettings(Settings):
    """What a failed check does: warn in the report, quarantine the span and go on without it, or stop the run too."""

    readable: Literal["quarantine", "stop"] = Field("quarantine", description="A span that cannot be read.")
    columns: Severity = Field("quarantine", description="Columns missing, new, renamed, or in another order.")
    rows: Severity = Field("quarantine", description="More rows to set aside than `set_aside` allows.")
    anomalies: Severity = Field("quarantine", description="An anomaly that TFDV finds against the schema.")
    expectations: Severity = Field(
        "quarantine", description="A broken expectation, unless its own `meta: {severity: ...}` says otherwise."
    )
    drift: Severity = Field("warn", description="A feature whose distribution changed since earlier spans.")
    label_drift: Severity = Field("warn", description="The same of the label.")
    skew: Severity = Field("warn", description="A feature that is distributed otherwise in serving.")
    set_aside: float = Field(
        0.01, ge=0, lt=1, description="Greatest share of a span's rows that may be set aside one by one."
    )
    false_alarms: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Chance of any drift alarm on a span in which nothing changed; schema.pbtxt may set thresholds.",
    )


class BeamSettings(Settings):
    """Apache Beam, which ingests, measures, transforms and predicts."""

    options: list[str] = Field(
        default=["--runner=DirectRunner", "--direct_running_mode=in_memory"],
        description="Beam pipeline options; another runner (Dataflow, Flink, Spark) is named here.",
    )


class ModelSettings(Settings):
    """The user's TFX-style module."""

    module: str = Field("model.py", description="Python file with `preprocessing_fn` and `build_model`.")


class StabiliseSettings(Settings):
    """Short trainings over several draws of initial weights, before anything is tuned."""

    draws: int = Field(3, ge=1, description="How many draws of initial weights are tried.")
    steps: int = Field(
        30, ge=2, description="Training steps for each draw; the learning rate warms up over the first half."
    )


class TrainSettings(Settings):
    """The training loop."""

    instances: int = Field(2, ge=1, description="Instances trained in each run, with different seeds.")
    epochs: int = Field(30, ge=1, description="Passes over the training split, at the most.")
    batch_size: int = Field(32, ge=1, description="Examples in one global batch.")
    learning_rate: float = Field(0.003, gt=0, description="Adam's learning rate.")
    patience: int = Field(5, ge=1, description="Epochs without a lower eval loss before training stops.")
    strategy: Literal["one_device", "mirrored"] = Field(
        "one_device", description="tf.distribute strategy: one device, or a replica on every local device."
    )
    seed: int = Field(17, ge=0, description="Seed of the first instance and of the first weight draw.")


class EvaluateSettings(Settings):
    """What is measured on the test split, beside the overall metrics."""

    slices: list[str] = Field(default_factory=list, description="Features by whose values the metrics are sliced.")


class GateSettings(Settings):
    """When a candidate replaces the champion."""

    metric: Literal["accuracy", "log_loss"] = Field("accuracy", description="Primary metric.")
    mode: Literal["better", "not_worse"] = Field(
        "better",
        description="better: the interval of the improvement lies above zero; not_worse: it lies above -margin.",
    )
    margin: float = Field(0.0, ge=0, description="Loss of the primary metric that not_worse tolerates.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the paired interval.")
    floor: float | None = Field(
        None, description="Worst value of the primary metric that may serve: least accuracy or greatest log loss."
    )

    @model_validator(mode="after")
    def _margin_needs_mode(self) -> GateSettings:
        """A margin is read only with mode not_worse."""
        if self.mode == "better" and self.margin:
            raise ValueError(
                f"margin is read only with mode: not_worse. Received: mode better with margin {self.margin:g}"
            )
        return self


class LedgerSettings(Settings):
    """Where the append-only record lives."""

    url: str | None = Field(None, description="SQLAlchemy URL; none: SQLite inside the state folder.")


class RegistrySettings(Settings):
    """Where model versions live."""

    uri: str | None = Field(None, description="MLflow tracking URI; none: SQLite inside the state folder.")


class ServingSettings(Settings):
    """The model server."""

    port: int = Field(8080, ge=1, le=65535, description="HTTP port of `perennial serve`, on loopback.")
    poll_seconds: float = Field(1.0, gt=0, le=2, description="How often the server looks for a new deployment.")


class KubeflowSettings(Settings):
    """What the compiled pipeline needs on a cluster."""

    image: str | None = Field(None, description="Image of every step; none: perennial with this version's tag.")
    project: str | None = Field(None, description="Path of the project folder inside the image or a mounted volume.")


class ProjectSettings(Settings):
    """The whole of `project.yaml`."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="Name of the model in the registry and in URLs: lower-case letters, digits and hyphens.",
    )
    label: str = Field(description="Feature that the model predicts: a class number from 0.")
    state: str = Field(".perennial", description="Folder for the ledger, the registry, artifacts and reports.")
    data: DataSettings
    checks: ChecksSettings = ChecksSettings()
    beam: BeamSettings = BeamSettings()
    model: ModelSettings = ModelSettings()
    stabilise: StabiliseSettings = StabiliseSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings()
    ledger: LedgerSettings = LedgerSettings()
    registry: RegistrySettings = RegistrySettings()
    serving: ServingSettings = ServingSettings()
    kubeflow: KubeflowSettings = KubeflowSettings()
