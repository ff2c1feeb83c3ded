"""Declares what each step whose result is kept reads of a project.

Its key holds these settings and files, and it is given no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from schemas.project import ProjectSettings

SCHEMA_FILE = "schema.pbtxt"
EXPECTATIONS_FILE = "expectations.json"
# Of the schema, only what says what values are: their types, shapes and domains, and which features
# are in use.
SCHEMA_TYPES = "types in schema.pbtxt"
MODULE = "the module"
FILES = frozenset({SCHEMA_FILE, EXPECTATIONS_FILE, SCHEMA_TYPES, MODULE})

# They say where and on what a step works, and not what it makes: every step may read them, and no
# key holds them.
PLACES = ("name", "state", "root", "beam", "ledger", "registry", "kubeflow")

_TASKS = ("label", "model.tasks")
_MODULE = (*_TASKS, "model.files", "model.module")
# What every training reads; `select_spans` hands each instance its seed, and how many instances
# there are.
_STEPS = (
    "train.base_batch_size",
    "train.batch_size",
    "train.cache_mb",
    "train.device",
    "train.learning_rate",
    "train.precision",
    "train.strategy",
    "train.tpu",
    "train.xla",
)
_SHORT_TRAININGS = (*_STEPS, "train.balance", "train.seed", "train.steps_per_execution")
_ROWS = ("data.delimiter", "data.format", "data.key", "data.max_value_mb", "data.missing")
_SEARCH_SPACE = ("tune.algorithm", "tune.batch_size", "tune.best", "tune.learning_rate")


@dataclass(frozen=True)
class StepInputs:
    """The settings and files that a step reads of a project.

    Attributes:
        settings: Keys of project.yaml; that of a section stands for all of it.
        files: Files of the project, of `FILES`.
        revision: Part of its key: raise it when the step makes something else of the same inputs.
    """

    settings: tuple[str, ...]
    files: tuple[str, ...] = ()
    revision: int = 0


# The steps whose results are kept, in the order of the run; those that are not here run in every
# run.
STEP_INPUTS = {
    "ingest_examples": StepInputs(("label", *_ROWS, "data.table", "data.splits"), (SCHEMA_TYPES,)),
    "check_examples": StepInputs(
        (
            *_TASKS,
            "data.key",
            "checks.readable",
            "checks.rows",
            "checks.expectations",
            "checks.set_aside",
        ),
        (SCHEMA_TYPES, EXPECTATIONS_FILE),
    ),
    "compute_statistics": StepInputs(("label",), (SCHEMA_FILE,)),
    "validate_data": StepInputs(
        (
            "label",
            *_ROWS,
            "data.table",
            "data.splits.by",
            "data.duplicates",
            "data.serving_log",
            "checks.duplicates",
            "checks.future",
            "checks.set_aside",
            "checks.columns",
            "checks.anomalies",
            "checks.drift",
            "checks.label_drift",
            "checks.skew",
            "checks.false_alarms",
        ),
        (SCHEMA_FILE,),
        revision=1,
    ),
    "analyse_features": StepInputs(_MODULE, (SCHEMA_FILE, MODULE)),
    "transform_features": StepInputs((*_MODULE, "data.key"), (SCHEMA_FILE, MODULE)),
    "compare_designs": StepInputs(
        (*_MODULE, *_SHORT_TRAININGS, "designs.samples", "designs.epochs"), (MODULE,)
    ),
    "pretrain_learner": StepInputs(
        (
            *_MODULE,
            *_STEPS,
            "train.seed",
            "model.latent",
            "pretext",
            *_ROWS,
            "data.splits",
            "data.unlabelled",
        ),
        (SCHEMA_FILE, MODULE),
    ),
    "stabilise_weights": StepInputs(
        (*_MODULE, *_SHORT_TRAININGS, "stabilise", *_SEARCH_SPACE), (MODULE,)
    ),
    "tune_model": StepInputs(
        (
            *_MODULE,
            *_SHORT_TRAININGS,
            "train.epochs",
            "run_fn",
            *_SEARCH_SPACE,
            "tune.trials",
            "tune.minutes",
            "tune.epochs",
        ),
        (SCHEMA_FILE, MODULE),
    ),
    "train_model": StepInputs(
        (
            *_MODULE,
            *_STEPS,
            "data.missing",
            "train.balance",
            "train.checkpoint_steps",
            "train.epochs",
            "train.patience",
            "train.restarts",
            "train.steps_per_execution",
            "train.workers",
            "model.latent",
            "model.calibration",
            "patch.shrink",
            "patch.perturb",
            "patch.warm_up_steps",
            "run_fn",
            "tune.learning_rate",
        ),
        (SCHEMA_FILE, MODULE),
    ),
    "evaluate_model": StepInputs(
        (
            *_TASKS,
            *_ROWS,
            "data.serving_log",
            "evaluate.slices",
            "evaluate.crosses",
            "evaluate.least_examples",
            "evaluate.group",
            "evaluate.serving",
            "evaluate.least_effective",
            "evaluate.fairness",
            "gate.metric",
            "gate.confidence",
            "gate.distribution",
            "gate.repeats",
        ),
        (SCHEMA_FILE,),
        revision=1,
    ),
    "probe_model": StepInputs(
        (
            *_TASKS,
            "data.key",
            "evaluate.group",
            "evaluate.covariates",
            "evaluate.explain",
            "features",
            "gate.metric",
        ),
        (SCHEMA_FILE,),
        revision=1,
    ),
    "decide_promotion": StepInputs(("gate",)),
    "validate_serving": StepInputs(("data.key",)),
}

# The functions of the task `prepare_span`; `Selection` holds their keys.
PREPARATION = ("ingest_examples", "check_examples", "compute_statistics")

# What `select_spans`, which is never cached, makes of settings and hands to the steps behind it as
# inputs of their own, and which of these then run again. Whether a step is in the pipeline at all
# is `perennial.training.stages`.
SELECTED = {
    "data.spans": ("ingest_examples", "spans that were not ingested before"),
    "data.table": ("ingest_examples", "spans that were not ingested before"),
    "data.window": ("validate_data", "spans that enter or leave the window"),
    "train.instances": ("train_model", "instances that there were not before"),
    "train.seed": ("train_model", "all instances, which get other seeds"),
    "patch.instances": ("train_model", "instances that there were not before"),
    "evaluate.former_days": ("evaluate_model", "the comparison, where it chooses other versions"),
    "tune.best": ("train_model", "instances that get other hyperparameters"),
    "tune.max_age_days": ("tune_model", "a search, where the earlier one is older than that"),
}


Section = TypeVar("Section", bound=BaseModel)


def keep_settings(settings: Section, paths: Iterable[str]) -> Section:
    """Gives a copy of the settings with these keys alone.

    To read another one raises an AttributeError.
    """
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).append(rest)
    kept = settings.model_copy()
    values = vars(kept)
    for name in list(values):
        if name not in below:
            del values[name]
        elif "" not in below[name]:
            values[name] = keep_settings(values[name], below[name])
    return kept


def settings_of(settings: ProjectSettings, paths: Iterable[str]) -> dict[str, Any]:
    """Gives the values of these keys, ready for JSON."""
    plain = TypeAdapter(Any)
    return {path: plain.dump_python(_value_at(settings, path), mode="json") for path in paths}


def setting_paths(section: type[BaseModel] = ProjectSettings, prefix: str = "") -> Iterator[str]:
    """Gives every key of project.yaml but sections that are always there once."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def covers(paths: Iterable[str], path: str) -> bool:
    """Tells whether a key, or a section that it is in, is among these."""
    return any(path == one or path.startswith(f"{one}.") for one in paths)


def readers_of(path: str) -> list[str]:
    """Gives the steps whose key holds a setting, in the order of the run."""
    return [step for step, inputs in STEP_INPUTS.items() if covers(inputs.settings, path)]


def _value_at(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings
