"""Facts of a judged run for tests of the report.

X-ray pictures of three clinics, one of whose scanners is suspect.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from perennial.report.facts import RunFacts
from schemas import records as r
from schemas.project import GateSettings
from tests.perennial.report.facts import CHAMPION, DAYS, OWN, evaluation, promoted

TEST, GROUPS = 2012, 640
GATE = GateSettings(
    metric="accuracy", floors={"accuracy": 0.7, "log_loss": 0.5}, slice_loss=0.05, repeats=3
)
# What stands in a row of differences: slice, examples, gain, whether it is a view.
VIEWS = [
    ("overall", TEST, 0.021, False),
    ("newest span", 302, 0.017, True),
    ("serving distribution", TEST, 0.026, True),
    ("drifted: exposure", 411, -0.004, True),
]
SLICES = [
    ("site=North", 911, 0.024, False),
    ("site=South", 702, 0.031, False),
    ("site=Harbour clinic", 378, -0.071, False),
    ("site=Mobile unit", 21, -0.048, False),
    ("label=pneumonia, site=Harbour clinic", 96, -0.092, False),
]


def difference(name: str, examples: int, gain: float, view: bool, **changes: Any) -> r.Difference:
    """A gain in accuracy; with fewer than 30 examples without an interval."""
    half = 0.62 / math.sqrt(examples) if examples >= 30 else math.nan
    values: dict[str, Any] = {"confidence": 0.95, "view": view, "clusters": GROUPS}
    values |= {"family": 4 if name == "overall" else 8, "low": gain - half, "high": gain + half}
    return r.Difference(
        **(
            {
                "metric": "accuracy",
                "task": "prediction",
                "slice": name,
                "examples": examples,
                "value": gain,
            }
            | values
        )
        | changes
    )


def measured(model: str, name: str, examples: int, accuracy: float, view: bool) -> r.SliceMetrics:
    values = {"accuracy": accuracy, "log_loss": 1.7 * (1 - accuracy)}
    return r.SliceMetrics(
        model=model, task="prediction", slice=name, examples=examples, values=values, view=view
    )


def calibration(
    model: str, bias: float, temperature: float | None = None, **changes: Any
) -> r.Calibration:
    """Ten bins of a model that is surer than right by `bias` where it is least sure."""
    counts = [4, 12, 31, 58, 86, 121, 190, 296, 471, 743]
    bins = []
    for number, examples in enumerate(counts):
        low = number / 10
        confidence = low + 0.055
        accuracy = min(1.0, max(0.0, confidence - bias * (1 - low)))
        bins.append(
            r.CalibrationBin(
                low=low, high=low + 0.1, examples=examples, confidence=confidence, accuracy=accuracy
            )
        )
    error = sum(row.examples * abs(row.confidence - row.accuracy) for row in bins) / sum(counts)
    values: dict[str, Any] = {
        "error": error,
        "low": 0.7 * error,
        "high": 1.4 * error,
        "confidence": 0.95,
    }
    values |= {"model": model, "task": "prediction", "bins": bins, "temperature": temperature}
    return r.Calibration(**(values | changes))


def quantiles(middle: float, spread: float) -> list[float]:
    """21 quantiles of scores between 0 and 1."""
    steps = [min(0.999, max(0.001, n / 20)) for n in range(21)]
    return [1 / (1 + math.exp(-(middle + spread * math.log(step / (1 - step))))) for step in steps]


def group_test(
    group: str, measure: r.GroupMeasure, value: float, rest: float, **changes: Any
) -> r.GroupTest:
    values: dict[str, Any] = {
        "feature": "site",
        "examples": 378,
        "gap": abs(value - rest),
        "p_value": 0.61,
    }
    values |= {"group": group, "measure": measure, "value": value, "rest": rest, "flagged": False}
    return r.GroupTest(**(values | changes))


FAIRNESS = r.Fairness(
    score="probability of class 1 (pneumonia)",
    tests=[
        group_test("North", "score", 0.31, 0.33, examples=911, gap=0.041, p_value=1.0),
        group_test("North", "error_rate", 0.061, 0.082, examples=911),
        group_test("South", "error_rate", 0.066, 0.077, examples=702, p_value=1.0),
        group_test("Harbour clinic", "score", 0.52, 0.28, gap=0.31, p_value=2.1e-9, flagged=True),
        group_test("Harbour clinic", "error_rate", 0.172, 0.0637, p_value=0.00004, flagged=True),
        group_test("Harbour clinic", "false_negative_rate", 0.12, 0.08, p_value=0.4),
    ],
    scores=[
        r.ScoreDistribution(
            feature="site", group="North", examples=911, quantiles=quantiles(-1.1, 0.9)
        ),
        r.ScoreDistribution(
            feature="site", group="South", examples=702, quantiles=quantiles(-0.9, 0.8)
        ),
        r.ScoreDistribution(
            feature="site", group="Harbour clinic", examples=378, quantiles=quantiles(0.2, 1.0)
        ),
        r.ScoreDistribution(
            feature="sex", group="female", examples=1024, quantiles=quantiles(-0.9, 1.0)
        ),
        r.ScoreDistribution(
            feature="sex", group="male", examples=988, quantiles=quantiles(-0.8, 1.0)
        ),
    ],
)
SERVING = r.ServingDistribution(
    method="label_shift",
    requests=4812,
    effective=1123.4,
    served={"0": 0.55, "1": 0.34, "2": 0.11},
    tested={"0": 0.68, "1": 0.22, "2": 0.10},
)


def judged_evaluation(**changes: Any) -> r.Evaluation:
    """Both models on all views and slices, with all that is measured beside them."""
    rows = [*VIEWS, *SLICES]
    champion = {name: 0.905 - 0.02 * number for number, (name, *_) in enumerate(rows)}
    slices = [
        measured(
            model, name, examples, champion[name] + (gain if model == "candidate" else 0), view
        )
        for name, examples, gain, view in rows
        for model in ("candidate", "champion")
    ]
    slices.append(measured("instance-1", "overall", TEST, 0.912, False))
    values: dict[str, Any] = {
        "examples": TEST,
        "window": DAYS,
        "slices": slices,
        "differences": [
            *(difference(*row) for row in rows),
            difference("overall", TEST, 0.007, False, model="instance-1"),
        ],
        "serving": SERVING,
        "fairness": FAIRNESS,
        "calibration": [calibration("candidate", 0.02, 1.42), calibration("champion", 0.14)],
        "not_compared": [
            "sex=other: 11 examples are fewer than 50, so this group was not compared"
        ],
    }
    return evaluation(CHAMPION).model_copy(update=values | changes)


def probe(
    feature: str, kind: str, value: float, chance: float, spread: float, **changes: Any
) -> r.CovariateProbe:
    unit = (
        "accuracy of telling it from the latent vector" if kind == "latent" else "log loss (nats)"
    )
    values: dict[str, Any] = {
        "feature": feature,
        "probe": kind,
        "value": value,
        "chance": chance,
        "spread": spread,
    }
    return r.CovariateProbe(
        **(values | {"p_value": 0.48, "flagged": False, "unit": unit} | changes)
    )


COVARIATES = [
    probe("bed_number", "permute", 0.2110, 0.2104, 0.0011),
    probe("bed_number", "latent", 0.11, 0.12, 0.02),
    probe("scanner", "permute", 0.2110, 0.2531, 0.0042, p_value=0.0001, flagged=True),
    probe("scanner", "invert", 0.3112, 0.2531, 0.0042, p_value=0.0001, flagged=True),
    probe("scanner", "latent", 0.83, 0.41, 0.021, p_value=0.0001, flagged=True),
]
COSTS = {"image": 40.0, "age": 0.0, "temperature": 1.5, "crp": 12.0, "oxygen": 2.5, "scanner": None}
LOSSES = {
    "image": 0.213,
    "age": 0.012,
    "temperature": 0.009,
    "crp": 0.021,
    "oxygen": 0.034,
    "scanner": 0.026,
}


def importance(feature: str, loss: float, cost: float | None) -> r.FeatureImportance:
    half = 0.004 + 0.1 * loss
    return r.FeatureImportance(
        feature=feature, loss=loss, low=loss - half, high=loss + half, cost=cost
    )


def drop(features: Sequence[str], saved: float, loss: float) -> r.DroppedFeatures:
    return r.DroppedFeatures(
        features=list(features), saved=saved, loss=loss, low=loss - 0.008, high=loss + 0.009
    )


def lungs(height: int = 16, width: int = 16) -> list[float]:
    """Attributions in two blobs, row by row."""
    centres = [(0.5 * height, 0.28 * width), (0.55 * height, 0.72 * width)]
    return [
        sum(
            0.01
            * math.exp(-((row - y) ** 2 / height + (column - x) ** 2 / (0.4 * width) * 1.4) / 2)
            for y, x in centres
        )
        for row in range(height)
        for column in range(width)
    ]


def explained(number: int) -> r.ExampleAttribution:
    chance = random.Random(number)
    parts = {
        name: round(chance.gauss(0, 0.2), 3) for name in [*COSTS, *(f"lab_{n}" for n in range(5))]
    }
    return r.ExampleAttribution(
        key=f"xray-{1204 + 7 * number:04d}",
        span=DAYS[number % 3].name,
        label=0,
        predicted=1,
        output=0.31 + math.fsum(parts.values()) + 0.012,
        baseline=0.31,
        attributions=parts,
        gap=0.012,
    )


PROBING = r.Probing(
    digest="2" * 64,
    metric="accuracy",
    examples=500,
    covariates=COVARIATES,
    importances=[importance(name, loss, COSTS[name]) for name, loss in LOSSES.items()],
    drops=[
        drop(["temperature"], 1.5, 0.009),
        drop(["temperature", "crp"], 13.5, 0.029),
        drop(["temperature", "crp", "oxygen"], 16.0, 0.067),
        drop(["temperature", "crp", "oxygen", "image"], 56.0, 0.31),
    ],
    attributions=[
        r.Attribution(feature="image_xf", mean=0.31, elements=lungs(), shape=[16, 16, 1]),
        r.Attribution(feature="oxygen_xf", mean=0.084),
        r.Attribution(feature="crp_xf", mean=0.041),
        r.Attribution(
            feature="words_xf", mean=0.012, elements=[0.001, 0.004, 0.002, 0.005], shape=[4]
        ),
        r.Attribution(feature="age_xf", mean=0.006),
    ],
    explained=[explained(number) for number in range(3)],
    not_probed=["`bed_number` is text, so it could not be turned into its opposite"],
)
BETTER = r.Criterion(
    name="against champion version 3",
    metric="accuracy",
    passed=True,
    explanation="gain in accuracy +0.0210, 95% interval +0.0072 to +0.0348 on 2012 examples, "
    "so it is better than the "
    "champion",
    value=0.021,
    low=0.0072,
    high=0.0348,
    limit=0.0,
    confidence=0.95,
)
FLOOR = r.Criterion(
    name="candidate's accuracy",
    kind="floor",
    metric="accuracy",
    passed=True,
    explanation="candidate's accuracy is 0.9260, at least 0.7000",
    value=0.926,
    limit=0.7,
)
LOST = r.Criterion(
    name="slice site=Harbour clinic",
    kind="slice",
    metric="accuracy",
    passed=False,
    explanation="site=Harbour clinic loses 0.0710 of accuracy on 378 examples (95% interval "
    "-0.1029 to -0.0391, for "
    "all slices together), more than 0.0500",
    value=-0.071,
    low=-0.1029,
    high=-0.0391,
    limit=-0.05,
    confidence=0.95,
)
UNFAIR = r.Criterion(
    name="fairness",
    kind="fairness",
    passed=False,
    blocking=False,
    explanation="groups differ: score of site=Harbour clinic 0.5200 beside 0.2800",
)
SUSPECT = r.Criterion(
    name="hidden covariates",
    kind="covariate",
    passed=False,
    blocking=False,
    explanation="the answers rest on the suspect feature `scanner` (permute and invert and latent)",
)
UNKNOWN_LOSS = r.Criterion(
    name="candidate's log loss",
    kind="floor",
    metric="log_loss",
    passed=False,
    compared=False,
    explanation="candidate's log loss could not be measured",
    limit=0.5,
)


def judged(*criteria: r.Criterion, **changes: Any) -> RunFacts:
    """A kept champion, with everything that can be measured, probed and explained."""
    asked = list(criteria or (FLOOR, BETTER, LOST, UNFAIR, SUSPECT))
    failed = [row.explanation for row in asked if row.blocking and not row.passed]
    decision = r.Decision(
        promote=not failed,
        criteria=asked,
        reasons=failed,
        not_compared=["too few examples for an interval on 1 slice: site=Mobile unit (21)"],
    )
    facts: dict[str, Any] = {
        "project": "xray",
        "gate": GATE,
        "evaluation": judged_evaluation(),
        "probing": PROBING,
        "decision": decision,
        "settings_own": OWN,
    }
    if failed:
        facts |= {
            "outcome": "kept_champion",
            "reasons": failed,
            "version": None,
            "serving_check": None,
        }
        facts |= {"deployed": False, "champion_after": "3"}
    return promoted(**(facts | changes))
