"""Facts of runs for tests of the report: of digits, as the steps leave them."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from perennial.report.facts import Links, RunFacts, SpanLinks
from schemas import records as r
from schemas.project import GateSettings

# One test split of the digits example: examples by class, and how many of them each model got
# right.
EXAMPLES = [34, 37, 35, 38, 36, 37, 35, 36, 33, 34]
MORE_RIGHT = [34, 36, 35, 37, 35, 36, 35, 35, 30, 32]
LESS_RIGHT = [34, 34, 35, 36, 34, 36, 34, 36, 27, 32]

CLASSES = r.EvaluatedTask(name="prediction", kind="multi_class")


def make_span(name: str, version: int = 1) -> r.Span:
    return r.Span(
        name=name,
        version=version,
        uri=f"data/{name}.parquet",
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
    )


DAYS = [
    r.Span(
        name=f"2026-01-0{day}",
        version=1,
        uri=f"data/2026-01-0{day}.parquet",
        fingerprint=f"{day}c41f09be7d2" * 5,
    )
    for day in (1, 2, 3)
]
ROWS = [
    {"train": 91, "eval": 29, "test": 30},
    {"train": 88, "eval": 31, "test": 31},
    {"train": 92, "eval": 30, "test": 28},
]
LABELS = [
    [15, 16, 14, 15, 17, 14, 15, 16, 13, 15],
    [14, 15, 16, 15, 14, 16, 15, 15, 15, 15],
    [16, 14, 15, 17, 13, 15, 14, 16, 15, 15],
]
NAMES = ["row count", "id", "date", "label", "image.length", "image.min"]
CHECKS = [r.Check(kind="readable", subject="file", verdict="passed", message="150 rows, 4 columns")]
CHECKS += [
    r.Check(kind="expectation", subject=name, verdict="passed", message="holds for all rows")
    for name in NAMES
]
UNKNOWN = r.Check(
    kind="drift",
    subject="label",
    verdict="not_compared",
    message="no serving log yet to compare with",
)
FAILED = r.Check(
    kind="expectation",
    subject="image.max",
    verdict="failed",
    message="expected values between 8 and 16; received 150 of 150 values outside, such as 255",
)


def validation(*more: r.Check, accepted: bool = True) -> r.Validation:
    judged = [
        r.SpanValidation(
            span=span,
            new=day == 2,
            rows=ROWS[day],
            labels={str(i): n for i, n in enumerate(LABELS[day])},
            checks=[*CHECKS, UNKNOWN, *more] if day == 2 else [],
        )
        for day, span in enumerate(DAYS)
    ]
    return r.Validation(spans=judged, accepted=accepted, reasons=[check.message for check in more])


def selection(new: list[str], champion: r.Champion | None) -> r.Selection:
    return r.Selection(
        run="run-20260103-060012",
        resumes=None,
        window=DAYS,
        new_spans=new,
        champion=champion,
        instances=[],
        data_digest="d" * 64,
        checks_digest="c" * 64,
        project_digest="p" * 64,
        schema_digest="s" * 64,
        stages=["stabilise_weights"],
        git_commit=None,
    )


def falling(start: float, floor: float, rate: float, steps: int) -> list[float]:
    return [floor + (start - floor) * math.exp(-rate * step) for step in range(steps)]


STABILISATION = r.Stabilisation(
    chosen=1,
    draws=[
        r.WeightDraw(
            seed=17,
            losses=falling(2.41, 0.9, 0.06, 30),
            gradient_norm=1.94,
            gradient_variance=0.41,
            dead_units=0.031,
            finite=True,
        ),
        r.WeightDraw(
            seed=18,
            losses=falling(2.33, 0.74, 0.08, 30),
            gradient_norm=1.71,
            gradient_variance=0.22,
            dead_units=0.008,
            finite=True,
        ),
        r.WeightDraw(
            seed=19,
            losses=[*falling(2.52, 1.4, 0.05, 12), math.nan],
            gradient_norm=math.inf,
            gradient_variance=math.nan,
            dead_units=0.27,
            finite=False,
        ),
    ],
)


def training(number: int, floor: float, **changes: Any) -> r.Training:
    train, evaluated = falling(1.9, floor / 2, 0.25, 28), falling(1.6, floor, 0.28, 28)
    epochs = [
        r.Epoch(train_loss=a, eval_loss=b + max(0, i - 21) * 0.004, eval_metric=1 - 0.31 * b)
        for i, (a, b) in enumerate(zip(train, evaluated, strict=True))
    ]
    values: dict[str, Any] = {
        "instance": r.Instance(name=f"instance-{number}", seed=16 + number),
        "strategy": "one_device",
        "replicas": 1,
        "parameters": 60_650,
        "train_examples": 271,
        "eval_examples": 90,
        "metric": "accuracy",
        "epochs": epochs,
        "best_epoch": 21,
        "seconds": 11.4 + number,
        "digest": f"{number}" * 64,
        "hyperparameters": r.Hyperparameters(learning_rate=0.002, batch_size=32),
    }
    return r.Training(**(values | changes))


def confusion(model: str, right: list[int]) -> r.ConfusionMatrix:
    counts = [[0] * 10 for _ in EXAMPLES]
    for label, (all_of_it, good) in enumerate(zip(EXAMPLES, right, strict=True)):
        counts[label][label] = good
        counts[label][{8: 1, 1: 8, 9: 3}.get(label, (label + 4) % 10)] += all_of_it - good
    return r.ConfusionMatrix(model=model, labels=[str(i) for i in range(10)], counts=counts)


def evaluation(
    champion: r.Champion | None, compared: bool = True, better: bool = True
) -> r.Evaluation:
    models = {"candidate": MORE_RIGHT if better else LESS_RIGHT}
    if champion and compared:
        models["champion"] = LESS_RIGHT if better else MORE_RIGHT
    slices, differences = [], []
    for model, right in models.items():
        for name, n, good in [
            ("overall", sum(EXAMPLES), sum(right)),
            *((f"label={i}", n, right[i]) for i, n in enumerate(EXAMPLES)),
        ]:
            slices.append(
                r.SliceMetrics(
                    model=model,
                    task="prediction",
                    slice=name,
                    examples=n,
                    values={"accuracy": good / n, "log_loss": 0.05 + 2.1 * (1 - good / n)},
                )
            )
    both = {
        name: [row for row in slices if row.slice == name]
        for name in dict.fromkeys(row.slice for row in slices)
    }
    for name, (candidate, *other) in both.items() if len(models) == 2 else []:
        for metric, gain in (
            ("accuracy", candidate.values["accuracy"] - other[0].values["accuracy"]),
            ("log_loss", other[0].values["log_loss"] - candidate.values["log_loss"]),
        ):
            half = 0.28 / math.sqrt(candidate.examples) + abs(gain) * 0.4
            differences.append(
                r.Difference(
                    metric=metric,
                    task="prediction",
                    slice=name,
                    examples=candidate.examples,
                    value=gain,
                    low=gain - half,
                    high=gain + half,
                    confidence=0.9,
                )
            )
    return r.Evaluation(
        candidate="instance-2",
        digest="2" * 64,
        champion=champion,
        tasks=[CLASSES],
        trainings=[training(1, 0.19), training(2, 0.16)],
        examples=sum(EXAMPLES),
        slices=slices,
        differences=differences,
        confusion=[confusion(model, right) for model, right in models.items()],
        mistakes=[
            r.Mistake(
                key=f"digit-{1204 + 7 * i:04d}",
                span=DAYS[i % 3].name,
                label=8,
                predicted=1,
                probability=0.97 - 0.04 * i,
            )
            for i in range(10)
        ],
        not_compared=[]
        if len(models) == 2
        else ["The champion's answers: there is nothing to compare with."],
    )


OWN = r.Hyperparameters(learning_rate=0.003, batch_size=32)
CHAMPION = r.Champion(version="3", digest="9" * 64, deployment=3)
NOT_WORSE = r.Criterion(
    name="accuracy not worse",
    passed=True,
    explanation="+2.0 points, interval [-0.3, 4.3]; at least -5 was asked",
)
FLOOR = r.Criterion(name="floor", passed=True, explanation="97.2% is not below 70%")
NOT_BETTER = r.Criterion(
    name="accuracy better",
    passed=False,
    explanation="-2.0 points, interval [-4.2, +0.3] not above 0",
)
BASE: dict[str, Any] = {
    "project": "digits",
    "run": "run-20260103-060012",
    "reasons": [],
    "started_at": "2026-01-03T06:00:12+00:00",
    "ended_at": "2026-01-03T06:04:40+00:00",
    "git_commit": "4f1c2a9d8e7b6a5f4f1c2a9d8e7b6a5f4f1c2a9d",
    "gate": GateSettings(
        metric="accuracy", mode="not_worse", margin=0.05, confidence=0.9, floors={"accuracy": 0.7}
    ),
    "champion_before": "3",
    "champion_after": "3",
    "links": Links(
        log="log.txt",
        spans={
            "2026-01-03": SpanLinks(
                data_docs="data_docs/2026-01-03/index.html",
                statistics="statistics/2026-01-03.html",
                set_aside="set_aside/2026-01-03.jsonl",
            )
        },
    ),
}
TRAINED: dict[str, Any] = {
    "selection": selection(["2026-01-03"], CHAMPION),
    "validation": validation(),
    "stabilisation": STABILISATION,
    "settings_own": OWN,
    "evaluation": evaluation(CHAMPION),
}


def promoted(**changes: Any) -> RunFacts:
    decision = r.Decision(
        promote=True,
        criteria=[NOT_WORSE, FLOOR],
        reasons=[],
        not_compared=["Serving log: there is none yet."],
    )
    version = r.ModelVersion(
        name="digits", version="4", digest="2" * 64, source="models", mlflow_run="7be01c"
    )
    check = r.ServingCheck(
        passed=True,
        requests=32,
        largest_difference=2.4e-7,
        seconds_to_ready=6.8,
        message="All answers agree.",
    )
    facts = (
        BASE
        | TRAINED
        | {
            "decision": decision,
            "version": version,
            "serving_check": check,
            "deployed": True,
            "champion_after": "4",
        }
    )
    rose = "Accuracy rose by 2.0 points; the interval stays above the tolerated loss of 5 points."
    reasons = [rose, "Accuracy is above the floor."]
    return RunFacts(**(facts | {"outcome": "promoted", "reasons": reasons} | changes))


def kept(champion: r.Champion | None, compared: bool = True, **changes: Any) -> RunFacts:
    decision = r.Decision(promote=False, criteria=[NOT_BETTER, FLOOR], reasons=[], not_compared=[])
    facts = (
        BASE
        | TRAINED
        | {"outcome": "kept_champion", "decision": decision, "reasons": ["Accuracy did not rise."]}
    )
    number = champion.version if champion else None
    facts |= {
        "evaluation": evaluation(champion, compared, better=False),
        "gate": GateSettings(metric="accuracy"),
        "champion_before": number,
        "champion_after": number,
    }
    return RunFacts(**(facts | changes))


def rejected(**changes: Any) -> RunFacts:
    facts = BASE | {
        "outcome": "data_rejected",
        "reasons": [FAILED.message],
        "champion_before": "2",
        "champion_after": "2",
    }
    facts |= {
        "selection": selection(["2026-01-03"], CHAMPION),
        "validation": validation(FAILED, accepted=False),
    }
    return RunFacts(**(facts | changes))


NOTHING_NEW = RunFacts(**(BASE | {"outcome": "nothing_new", "selection": selection([], CHAMPION)}))
