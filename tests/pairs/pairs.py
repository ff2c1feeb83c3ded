"""For every setting that judges: two whole runs that it alone tells apart.

A pair is a scene, settings that both of its runs have, and two values of the setting. `shows` reads
what the setting is about from a run: how it ended and why, or, where a setting is not to decide how
a run ends, the record that it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.pairs.project import BAD, CONSTANT, FUTURE, GOOD, LEARNED, NEW, OLD, UNREADABLE
from tests.pairs.whole_runs import NOTHING, Run, Scene


@dataclass(frozen=True)
class Pair:
    """Two runs, and what of them differs.

    Attributes:
        setting: The key of the setting that alone differs.
        scene: What both runs begin with.
        values: The setting's two values.
        shows: Reads from a run what the setting is about.
        expected: What it reads from each of the two runs; None: the two only have to differ.
        settings: Values of other keys, in both runs.
    """

    setting: str
    scene: Scene
    values: tuple[Any, Any]
    shows: Callable[[Run], Any]
    expected: tuple[Any, Any] | None
    settings: Mapping[str, Any] = field(default_factory=dict)


# --- what is read from a run ----------------------------------------------------------------------


def verdict(run: Run) -> tuple[str, ...]:
    """Gives the outcome, and the kinds of the criteria of the gate that kept the champion."""
    failed = [c.kind for c in run.decision.criteria if c.blocking and not c.passed]
    return run.outcome, *dict.fromkeys(failed)


def refusal(run: Run) -> tuple[str, ...]:
    """Gives the outcome, and the kinds of the checks for which spans were refused."""
    refused = {check.kind for span in run.validation.spans for check in span.failures}
    return run.outcome, *sorted(refused)


def stops(run: Run) -> tuple[str, int]:
    """Gives the outcome, and how many checks made the run stop."""
    checks = [check for span in run.validation.spans for check in span.failures]
    return run.outcome, sum(check.severity == "stop" for check in checks)


def attempts(run: Run) -> list[int]:
    """Gives the number of each repetition."""
    return [selection.attempt for selection in run.selections]


def former(run: Run) -> list[str]:
    """Gives the versions that served before and that the champion was compared with."""
    return [one.version for one in run.evaluation.former]


def is_explained(run: Run) -> bool:
    """Tells whether the importance of features was measured."""
    return run.probing is not None and bool(run.probing.importances)


def importance_intervals(run: Run) -> Any:
    """Gives the bounds of each feature's importance."""
    assert run.probing is not None
    return [(one.feature, one.low, one.high) for one in run.probing.importances]


def path_gaps(run: Run) -> Any:
    """Gives how far the steps of the path are from the whole of each explained answer."""
    assert run.probing is not None
    return [one.gap for one in run.probing.explained]


def explained(run: Run) -> int:
    """Counts the single examples that were explained."""
    assert run.probing is not None
    return len(run.probing.explained)


def trials(run: Run) -> int:
    """Counts the trials of the search."""
    return len(run.tuning.trials)


def trial_epochs(run: Run) -> list[int]:
    """Gives the passes of each trial."""
    return [len(trial.losses) for trial in run.tuning.trials]


def tried(run: Run) -> list[str]:
    """Gives the names of what the trials searched."""
    return sorted({name for trial in run.tuning.trials for name in trial.values})


def tried_values(run: Run) -> Any:
    """Gives the values of each trial."""
    return [trial.values for trial in run.tuning.trials]


def trained_with(run: Run) -> int:
    """Counts the different hyperparameters that instances were trained with."""
    return len({one.hyperparameters.model_dump_json() for one in run.evaluation.trainings})


def search(run: Run) -> str:
    """Tells whether the run searched for hyperparameters or used an earlier search."""
    return run.tuning.outcome


def chosen(run: Run) -> tuple[str, str]:
    """Gives the outcome, and the instance that became the candidate."""
    return run.outcome, run.evaluation.candidate


# --- scenes ---------------------------------------------------------------------------------------

# The champion answers as `old` does, the candidate as `new` does; neither learns anything.
FIRST = Scene(NOTHING, OLD, {"gate.trivial": "warn"}, retrain=False)
# There is no champion, and the candidate learns nothing either.
UNTAUGHT = Scene(NOTHING, CONSTANT, {}, retrain=False)
JUDGED = Scene("first", NEW, {})
# A span lands that fails every check; each check warns.
_WARN = dict.fromkeys(
    ("duplicates", "columns", "rows", "anomalies", "expectations", "drift", "label_drift", "skew"),
    "warn",
)
CHECKED = Scene(
    "first",
    OLD,
    {f"checks.{name}": value for name, value in _WARN.items()},
    (GOOD, BAD),
    retrain=False,
)
BROKEN = Scene("first", OLD, CHECKED.settings, (GOOD, BAD, UNREADABLE), retrain=False)
AHEAD = Scene("first", OLD, CHECKED.settings, (GOOD, BAD, FUTURE), retrain=False)
# A search over a width; no candidate reaches the floor.
TUNED = Scene(
    "first",
    LEARNED,
    {"tune.trials": 2, "tune.epochs": 1, "gate.floors": {"accuracy": 1.0}},
)
SEARCHED = Scene("searched", LEARNED, TUNED.settings)
# The champion has learned much; an instance that starts anew learns next to nothing.
TAUGHT = Scene(
    "first",
    LEARNED,
    {"train.epochs": 20, "train.batch_size": 32, "train.learning_rate": 0.05},
)
PATCHED = Scene(
    "taught",
    LEARNED,
    {
        "patch.instances": 1,
        "patch.shrink": 1.0,
        "patch.perturb": 0.0,
        "train.learning_rate": 1e-6,
        "gate.metric": "log_loss",
        "gate.mode": "not_worse",
        "gate.margin": 0.02,
    },
)
STATES = {"first": FIRST, "searched": TUNED, "taught": TAUGHT}

PROMOTED = ("promoted",)
KEPT = "kept_champion"
REFUSED = "data_rejected"

_BY_WARD = {"evaluate.slices": ["ward"], "gate.slice_loss": 0.05}
_BY_PATIENT = {"evaluate.group": "patient"}
# A candidate that answers as the champion does is good enough.
_AS_GOOD = {"gate.metric": "log_loss", "gate.mode": "not_worse"}
_FAIR = {"evaluate.fairness.features": ["clinic"], "gate.fairness": "block"}
_SUSPECT = {"evaluate.covariates.features": ["tag"], "gate.covariates": "block"}
_AS_SERVED = {"evaluate.serving": "covariate_shift", "gate.distribution": "serving"}
_NORTH = {"data.serving_log": "requests/north.csv"}
_EXPLAINED = {"evaluate.explain.examples": 200}

PAIRS = (
    # --- gate
    Pair(
        "gate.metric", JUDGED, ("accuracy", "log_loss"), verdict, (PROMOTED, (KEPT, "difference"))
    ),
    Pair(
        "gate.mode",
        Scene("first", OLD, {"gate.metric": "log_loss"}),  # the candidate is the champion's equal
        ("better", "not_worse"),
        verdict,
        ((KEPT, "difference"), PROMOTED),
    ),
    Pair(
        "gate.margin",
        JUDGED,
        (0.0, 0.3),
        verdict,
        ((KEPT, "difference"), PROMOTED),
        {**_BY_PATIENT, "gate.mode": "not_worse"},
    ),
    Pair(
        "gate.confidence",
        JUDGED,
        (0.95, 0.999999999),
        verdict,
        (PROMOTED, (KEPT, "difference")),
    ),
    Pair(
        "gate.distribution",
        JUDGED,
        ("test", "serving"),
        verdict,
        (PROMOTED, (KEPT, "difference")),
        {"evaluate.serving": "covariate_shift", **_NORTH},
    ),
    Pair("gate.floors", JUDGED, ({}, {"accuracy": 0.99}), verdict, (PROMOTED, (KEPT, "floor"))),
    Pair(
        "gate.slice_loss",
        JUDGED,
        (None, 0.05),
        verdict,
        (PROMOTED, (KEPT, "slice")),
        {"evaluate.slices": ["site"]},
    ),
    Pair(
        "gate.fairness",
        JUDGED,
        ("warn", "block"),
        verdict,
        (PROMOTED, (KEPT, "fairness")),
        {"evaluate.fairness.features": ["clinic"]},
    ),
    Pair(
        "gate.covariates",
        JUDGED,
        ("warn", "block"),
        verdict,
        (PROMOTED, (KEPT, "covariate")),
        {"evaluate.covariates.features": ["tag"]},
    ),
    Pair("gate.trivial", UNTAUGHT, ("warn", "block"), verdict, (PROMOTED, (KEPT, "trivial"))),
    Pair(
        "gate.newest_span",
        CHECKED,
        ("warn", "block"),
        verdict,
        (PROMOTED, (KEPT, "newest_span")),
        _AS_GOOD,
    ),
    Pair(
        "gate.newest_fall",
        CHECKED,
        (100.0, 0.05),
        verdict,
        (PROMOTED, (KEPT, "newest_span")),
        {**_AS_GOOD, "gate.newest_span": "block"},
    ),
    Pair("gate.repeats", JUDGED, (0, 1), attempts, ([0], [0, 1]), _BY_PATIENT),
    # --- evaluate
    Pair(
        "evaluate.slices",
        JUDGED,
        ([], ["site"]),
        verdict,
        (PROMOTED, (KEPT, "slice")),
        {"gate.slice_loss": 0.05},
    ),
    Pair(
        "evaluate.crosses",
        JUDGED,
        ([], [["camera", "shift"]]),
        verdict,
        (PROMOTED, (KEPT, "slice")),
        {"gate.slice_loss": 0.05},
    ),
    Pair(
        "evaluate.least_examples",
        JUDGED,
        (300, 10),
        verdict,
        (PROMOTED, (KEPT, "slice")),
        _BY_WARD,
    ),
    Pair("evaluate.group", JUDGED, (None, "patient"), verdict, (PROMOTED, (KEPT, "difference"))),
    Pair(
        "evaluate.serving",
        JUDGED,
        ("label_shift", "covariate_shift"),
        verdict,
        (PROMOTED, (KEPT, "difference")),
        {"gate.distribution": "serving", **_NORTH},
    ),
    Pair(
        "evaluate.least_effective",
        JUDGED,
        (100, 5000),
        verdict,
        (PROMOTED, (KEPT, "difference")),
        _AS_SERVED,
    ),
    Pair(
        "evaluate.fairness.features",
        JUDGED,
        ([], ["clinic"]),
        verdict,
        (PROMOTED, (KEPT, "fairness")),
        {"gate.fairness": "block"},
    ),
    Pair(
        "evaluate.fairness.least_examples",
        JUDGED,
        (200, 20),
        verdict,
        (PROMOTED, (KEPT, "fairness")),
        _FAIR,
    ),
    Pair(
        "evaluate.fairness.gap",
        JUDGED,
        (0.9, 0.1),
        verdict,
        (PROMOTED, (KEPT, "fairness")),
        _FAIR,
    ),
    Pair(
        "evaluate.fairness.false_alarms",
        JUDGED,
        (1e-12, 0.05),
        verdict,
        (PROMOTED, (KEPT, "fairness")),
        _FAIR,
    ),
    Pair(
        "evaluate.covariates.features",
        JUDGED,
        ([], ["tag"]),
        verdict,
        (PROMOTED, (KEPT, "covariate")),
        {"gate.covariates": "block"},
    ),
    Pair(
        "evaluate.covariates.repeats",
        JUDGED,
        (10, 60),
        verdict,
        (PROMOTED, (KEPT, "covariate")),
        {**_SUSPECT, "evaluate.covariates.false_alarms": 1e-9},
    ),
    Pair(
        "evaluate.covariates.false_alarms",
        JUDGED,
        (1e-100, 0.02),
        verdict,
        (PROMOTED, (KEPT, "covariate")),
        _SUSPECT,
    ),
    Pair("evaluate.former_days", PATCHED, (90, 0), former, (["1"], [])),
    Pair("evaluate.explain.examples", JUDGED, (0, 200), is_explained, (False, True)),
    Pair("evaluate.explain.repeats", JUDGED, (5, 2), importance_intervals, None, _EXPLAINED),
    Pair("evaluate.explain.steps", JUDGED, (32, 8), path_gaps, None, _EXPLAINED),
    Pair("evaluate.explain.single", JUDGED, (5, 1), explained, (5, 1), _EXPLAINED),
    # --- checks
    Pair(
        "checks.duplicates",
        CHECKED,
        ("warn", "quarantine"),
        refusal,
        ((KEPT,), (REFUSED, "duplicates")),
    ),
    Pair("checks.future", AHEAD, ("quarantine", "stop"), stops, ((KEPT, 0), (REFUSED, 1))),
    Pair(
        "checks.columns", CHECKED, ("warn", "quarantine"), refusal, ((KEPT,), (REFUSED, "columns"))
    ),
    Pair("checks.rows", CHECKED, ("warn", "quarantine"), refusal, ((KEPT,), (REFUSED, "rows"))),
    Pair(
        "checks.anomalies", CHECKED, ("warn", "quarantine"), refusal, ((KEPT,), (REFUSED, "schema"))
    ),
    Pair(
        "checks.expectations",
        CHECKED,
        ("warn", "quarantine"),
        refusal,
        ((KEPT,), (REFUSED, "expectation")),
    ),
    Pair("checks.drift", CHECKED, ("warn", "quarantine"), refusal, ((KEPT,), (REFUSED, "drift"))),
    Pair(
        "checks.label_drift",
        CHECKED,
        ("warn", "quarantine"),
        refusal,
        ((KEPT,), (REFUSED, "label_drift")),
    ),
    Pair("checks.skew", CHECKED, ("warn", "quarantine"), refusal, ((KEPT,), (REFUSED, "skew"))),
    Pair("checks.readable", BROKEN, ("quarantine", "stop"), stops, ((KEPT, 0), (REFUSED, 1))),
    Pair(
        "checks.set_aside",
        CHECKED,
        (0.2, 0.01),
        refusal,
        ((KEPT,), (REFUSED, "rows")),
        {"checks.rows": "quarantine"},
    ),
    Pair(
        "checks.false_alarms",
        CHECKED,
        (1e-200, 0.01),
        refusal,
        ((KEPT,), (REFUSED, "drift")),
        {"checks.drift": "quarantine"},
    ),
    # --- tune
    Pair("tune.trials", TUNED, (2, 1), trials, (2, 1)),
    Pair("tune.minutes", TUNED, (None, 1e-6), trials, (2, 1)),
    Pair("tune.epochs", TUNED, (1, 2), trial_epochs, ([1, 1], [2, 2])),
    Pair(
        "tune.learning_rate",
        TUNED,
        (None, [1e-4, 0.1]),
        tried,
        (["width"], ["train.learning_rate", "width"]),
    ),
    Pair(
        "tune.batch_size", TUNED, ([], [64, 128]), tried, (["width"], ["train.batch_size", "width"])
    ),
    Pair(
        "tune.algorithm",
        TUNED,
        ("bayesian", "random"),
        tried_values,
        None,
        {"tune.learning_rate": [1e-4, 0.1]},
    ),
    Pair("tune.best", TUNED, (1, 2), trained_with, (1, 2), {"train.instances": 2}),
    Pair("tune.max_age_days", SEARCHED, (30, 1e-9), search, ("reused", "searched")),
    # --- patch
    Pair(
        "patch.instances",
        PATCHED,
        (1, 0),
        chosen,
        (("promoted", "patched-1"), (KEPT, "instance-1")),
    ),
    Pair("patch.shrink", PATCHED, (1.0, 0.01), verdict, (PROMOTED, (KEPT, "difference"))),
    Pair("patch.perturb", PATCHED, (0.0, 10.0), verdict, (PROMOTED, (KEPT, "difference"))),
    Pair(
        "patch.warm_up_steps",
        PATCHED,
        (10_000, 0),
        verdict,
        (PROMOTED, (KEPT, "difference")),
        {"train.learning_rate": 1.0},
    ),
)
