"""Facts of what training can do beside draws and instances.

Pretraining, searches, design spaces, other tasks.
"""

from __future__ import annotations

import math
import random
from typing import Any

from perennial.report.facts import RunFacts
from schemas import records as r
from schemas.project import GateSettings
from tests.perennial.report.facts import (
    BASE,
    CHAMPION,
    CLASSES,
    DAYS,
    OWN,
    STABILISATION,
    falling,
    promoted,
    training,
)

FOUND = r.Hyperparameters(
    learning_rate=0.0044, batch_size=32, model={"units": 128, "dropout": 0.55}, source="tuner"
)

PRETRAINING = r.Pretraining(
    task="rotation",
    examples=1347,
    unlabelled=897,
    losses=falling(1.41, 0.35, 0.5, 8),
    held_out_losses=falling(1.43, 0.48, 0.45, 8),
    parameters=58_240,
    notes=["labelled examples of the eval and test splits were left out"],
)


def trial(number: int, loss: float | None, **changes: Any) -> r.Trial:
    values = {
        "learning_rate": 0.0004 * number,
        "units": 32 * (1 + number % 4),
        "dropout": round(0.05 * number, 2),
    }
    losses = falling(2.0, loss, 0.9, 5) if loss is not None else []
    base: dict[str, Any] = {
        "number": number,
        "values": values,
        "loss": loss,
        "losses": losses,
        "seconds": 6.2 + number,
    }
    return r.Trial(**(base | {"started_from": "24 of 24 weights"} | changes))


TRIALS = [
    trial(1, 0.41),
    trial(2, 0.38, started_from="18 of 24 weights"),
    trial(
        3, None, message="training loss must be finite. Received: nan. Lower `train.learning_rate`."
    ),
    trial(4, 0.29),
    trial(5, 0.44),
    trial(6, 0.262),
    trial(7, 0.31),
    trial(
        8,
        None,
        message="model.py:31: build_model must build. Received: ValueError: units must be above 0.",
    ),
    trial(9, 0.27),
    trial(10, 0.35),
    trial(11, 0.259),
    trial(12, 0.30),
]
SEARCHED = r.Tuning(
    outcome="searched",
    why="searched because label (span 2026-01-03) drifted: of 12 trials (2 failed) number 11 "
    "is best, with an eval "
    "loss of 0.259; the settings' own had 0.41",
    best=[FOUND],
    space="5" * 64,
    trials=TRIALS,
)
REUSED = r.Tuning(
    outcome="reused",
    why="those that run-20260101-060012 found 2 days before are used again",
    best=[FOUND],
    space="5" * 64,
    tuned=r.Tuned(
        best=[FOUND], space="5" * 64, at="2026-01-01T06:20:00.000+00:00", run="run-20260101-060012"
    ),
)


def designs() -> r.DesignComparison:
    """Three spaces with 20 models each: `residual` better than the others, which are about equal.

    Two failed.
    """
    chance = random.Random(7)
    samples = []
    for space, middle in (("plain", 0.55), ("wide", 0.52), ("residual", 0.36)):
        for number in range(20):
            failed = space == "wide" and number in (3, 11)
            samples.append(
                r.DesignSample(
                    space=space,
                    values={"depth": number % 5 + 1, "units": 16 * (number % 4 + 1)},
                    error=None if failed else max(0.12, chance.gauss(middle, 0.11)),
                    parameters=4_000 + 1_700 * number,
                    seconds=4.1,
                    message="training loss must be finite. Received: nan." if failed else None,
                )
            )
    tests = [
        r.SpaceTest(first="plain", second="wide", statistic=0.2, p_value=0.83, better=None),
        r.SpaceTest(
            first="plain", second="residual", statistic=0.7, p_value=0.00009, better="residual"
        ),
        r.SpaceTest(
            first="wide", second="residual", statistic=0.65, p_value=0.0006, better="residual"
        ),
    ]
    return r.DesignComparison(spaces=["plain", "wide", "residual"], samples=samples, tests=tests)


VALUES = r.EvaluatedTask(name="fare", kind="regression")
TIPPED = r.EvaluatedTask(name="tipped", kind="binary")


def value_training(number: int, floor: float, **changes: Any) -> r.Training:
    epochs = [
        r.Epoch(train_loss=a, eval_loss=b, eval_metric=math.sqrt(b) * 0.6)
        for a, b in zip(
            falling(140.0, floor * 0.8, 0.4, 12), falling(131.0, floor, 0.42, 12), strict=True
        )
    ]
    values = {
        "epochs": epochs,
        "best_epoch": 11,
        "metric": "mean_absolute_error",
        "parameters": 21_377,
    }
    return training(
        number, 0.2, **(values | {"train_examples": 9012, "eval_examples": 2980} | changes)
    )


def several_tasks(compared: bool = True) -> r.Evaluation:
    """Fare (a value; the gate reads it) and whether there was a tip, of taxi trips.

    Sliced by how they were paid.
    """
    fares = {"candidate": (2.214, 19.83), "champion": (2.431, 24.02)}
    tips = {"candidate": (0.871, 0.312, 0.921), "champion": (0.874, 0.309, 0.919)}
    slices, differences = [], []
    for name, n, factor in (
        ("overall", 3010, 1.0),
        ("payment_type=Cash", 1822, 0.9),
        ("payment_type=Card", 1188, 1.2),
    ):
        for model in ("candidate", "champion") if compared else ("candidate",):
            error, square = fares[model]
            accuracy, loss, auc = tips[model]
            value = {
                "mean_absolute_error": error * factor,
                "mean_squared_error": square * factor**2,
            }
            slices.append(
                r.SliceMetrics(model=model, task="fare", slice=name, examples=n, values=value)
            )
            shown = {"accuracy": accuracy, "log_loss": loss * factor, "auc": auc}
            slices.append(
                r.SliceMetrics(model=model, task="tipped", slice=name, examples=n, values=shown)
            )
        gain = 0.217 * (2 - factor)
        found = {
            "value": gain,
            "low": gain - 0.11 * factor,
            "high": gain + 0.11 * factor,
            "confidence": 0.95,
        }
        differences.append(
            r.Difference(metric="mean_absolute_error", task="fare", slice=name, examples=n, **found)
        )
    return r.Evaluation(
        candidate="patched-1",
        digest="2" * 64,
        champion=CHAMPION if compared else None,
        window=DAYS,
        tasks=[VALUES, TIPPED],
        trainings=INSTANCES,
        examples=3010,
        slices=slices,
        differences=differences if compared else [],
        confusion=[],
        mistakes=[
            r.Mistake(
                key=f"trip-{7 * i:05d}",
                span="2026-01-02",
                label=label,
                predicted=told,
                probability=None,
            )
            for i, (label, told) in enumerate(
                [(12.25, 9.1), (87.5, 31.2), (3.25, 24.8), (45.0, 60.15)]
            )
        ],
        not_compared=[] if compared else ["there is no champion yet"],
    )


INSTANCES = [
    value_training(1, 21.0),
    value_training(
        2,
        23.4,
        strategy="multi_worker",
        replicas=2,
        workers=2,
        resumed_from=4,
        restarts=1,
        hyperparameters=FOUND,
        seconds=95.2,
    ),
    value_training(
        3,
        19.2,
        instance=r.Instance(name="patched-1", seed=17, start="patched"),
        weights_from="champion",
        notes=[
            "22 of 24 weights came from champion version 3; the others are new: `dense_2/kernel` "
            "has another shape"
        ],
    ),
]


def run_fn_training(number: int, **changes: Any) -> r.Training:
    """What a module with `run_fn` leaves: one measurement of what it saved."""
    measured = r.Epoch(train_loss=0.31, eval_loss=0.33, eval_metric=0.86)
    values = {
        "strategy": "run_fn",
        "epochs": [measured],
        "best_epoch": 0,
        "parameters": 1_045,
        "train_examples": 9012,
    }
    return training(number, 0.2, **(values | changes))


def taxi(compared: bool = True, **changes: Any) -> RunFacts:
    """A promoted run of a model with a value and a class to predict."""
    facts: dict[str, Any] = {
        "project": "taxi",
        "tasks": [VALUES, TIPPED],
        "evaluation": several_tasks(compared),
        "gate": GateSettings(metric="mean_absolute_error", floors={"mean_absolute_error": 3.0}),
        "settings_own": OWN,
        "reasons": [
            "gain in mean absolute error +0.2170, 95% interval +0.1070 to +0.3270 on 3010 "
            "examples, so it is better",
            "candidate's mean absolute error is 2.2140, at most 3.0000",
        ],
    }
    return promoted(**(facts | changes))


def everything(**changes: Any) -> RunFacts:
    """A run of digits with every stage: pretraining, draws, a search, design spaces, instances."""
    stages: dict[str, Any] = {
        "pretraining": PRETRAINING,
        "stabilisation": STABILISATION.model_copy(update={"pretrained": 14}),
        "tuning": SEARCHED,
        "designs": designs(),
        "settings_own": OWN,
    }
    return promoted(**(stages | changes))


def stages(**found: Any) -> RunFacts:
    """Only what these stages found, of a run that failed later.

    Pages with few plots are made faster.
    """
    facts: dict[str, Any] = {
        "outcome": "failed",
        "reasons": ["a reason"],
        "tasks": [CLASSES],
        "settings_own": OWN,
    }
    return RunFacts(**(BASE | facts | found))
