"""Records of the comparison of models, and of what came of it."""

from __future__ import annotations

import math
from typing import ClassVar, Final, Literal

from schemas.project import Metric, TaskKind
from schemas.records.base import FileRecord, Record
from schemas.records.data import Span
from schemas.records.models import Champion, Training

# The two models that are judged, as records call them, and what they are judged on beside slices
# and views by name.
CANDIDATE: Final = "candidate"
CHAMPION: Final = "champion"
OVERALL: Final = "overall"
SERVING_DISTRIBUTION: Final = "serving distribution"


class SliceMetrics(Record):
    """Metrics of one model's task on one slice, by their names.

    `slice` is `overall`, `feature=value`, or `a=1, b=2` of a cross; of a view (`view`) its name:
    `newest span`, `serving distribution`, `drifted: feature`. `model` is `candidate`, `champion`,
    or the name of another instance. `undefined` says of each metric that is not defined (its value
    is NaN) what the examples are like, such as `one class only (1)`.
    """

    model: str
    task: str
    slice: str
    examples: int
    values: dict[Metric, float]
    view: bool = False
    undefined: dict[Metric, str] = {}


class Difference(Record):
    """A model minus the champion on one metric, with a paired interval; positive is better.

    `model` is `candidate`, or the name of another instance. `family` counts the intervals that
    hold together with `confidence`: each is widened for it (Bonferroni). `clusters` counts the
    groups that were resampled; None: examples.
    A slice with too few examples has no interval: `low` and `high` are NaN. `reason` says what the
    examples are like where there is no value or no interval, such as `one class only (1)`.
    """

    metric: Metric
    task: str
    slice: str
    examples: int
    value: float
    low: float
    high: float
    confidence: float
    model: str = CANDIDATE
    view: bool = False
    family: int = 1
    clusters: int | None = None
    reason: str = ""

    @property
    def has_interval(self) -> bool:
        """Tells whether the difference and its interval are numbers."""
        return all(map(math.isfinite, (self.value, self.low, self.high)))


class TrivialPredictor(Record):
    """The candidate beside the constant answer that does best on the same test examples.

    `answer` says which: for accuracy the most frequent class, for log loss each class with its
    share, for the mean absolute error the median, for the mean squared error the mean; any constant
    has the AUC 0.5. `value` is its metric, and `gain` what the candidate gains over it.
    """

    answer: str
    value: float
    gain: Difference


class FormerChampion(Record):
    """The champion beside a version that served before, on today's test examples.

    `gain` is what the champion gains over it; below 0: the champion is worse.
    """

    version: str
    gain: Difference


class NewestSpan(Record):
    """A model's metric on the newest span of the window beside the older spans.

    `newest` and `older` are the metric on the test examples of each. `change` is what it gained on
    the newest, so that positive is better, with its interval; NaN: it has none.
    """

    model: str
    task: str
    metric: Metric
    span: str
    examples: int
    older_examples: int
    newest: float
    older: float
    change: float
    low: float
    high: float
    confidence: float


class Outlier(Record):
    """A test example that makes much of a model's metric by itself.

    `share` is its part of the metric, `value`; `without` is the metric of all other examples.
    """

    model: str
    task: str
    metric: Metric
    key: str
    span: str
    label: int | float
    examples: int
    value: float
    share: float
    without: float


class ServingDistribution(Record):
    """The re-weighting of the test split to what serving sees.

    `requests` counts the served requests that it was estimated from; `effective` is the effective
    number of test examples that is left. `served` and `tested` are each class's estimated share in
    serving and its share of the test split (label shift), or empty.
    """

    method: Literal["label_shift", "covariate_shift"]
    requests: int
    effective: float
    served: dict[str, float] = {}
    tested: dict[str, float] = {}


GroupMeasure = Literal[
    "score", "error_rate", "false_positive_rate", "false_negative_rate", "absolute_error"
]


class GroupTest(Record):
    """The candidate on one group beside all other examples.

    `value` and `rest` are the measure on the group and on the others (for `score` their means);
    `gap` is the distance: Kolmogorov-Smirnov's of scores and absolute errors, the absolute
    difference of rates. `p_value` is corrected for the number of tests. `flagged`: the gap is
    larger than is tolerated, and not chance.
    """

    feature: str
    group: str
    examples: int
    measure: GroupMeasure
    value: float
    rest: float
    gap: float
    p_value: float
    flagged: bool


class ScoreDistribution(Record):
    """Scores of the candidate in one group: 21 quantiles, from the least to the greatest."""

    feature: str
    group: str
    examples: int
    quantiles: list[float]


class Fairness(Record):
    """The candidate compared between groups. `score` says in words what the scores are."""

    score: str
    tests: list[GroupTest]
    scores: list[ScoreDistribution]

    @property
    def flagged(self) -> list[GroupTest]:
        """The tests that found a difference."""
        return [test for test in self.tests if test.flagged]


class CalibrationBin(Record):
    """The test examples whose confidence lies in [low, high).

    Their mean confidence, and how often they were right.
    """

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


class Calibration(Record):
    """The distance of confidence from being right.

    The expected calibration error, with a bootstrap interval.

    Confidence is the probability of the predicted class. `temperature` is what the served model
    divides its logits by; None: it was not scaled.
    """

    model: str
    task: str
    bins: list[CalibrationBin]
    error: float
    low: float
    high: float
    confidence: float
    temperature: float | None = None


class ConfusionMatrix(Record):
    """Counts: `counts[i][j]` examples of class `labels[i]` were predicted as `labels[j]`."""

    model: str
    labels: list[str]
    counts: list[list[int]]


class Mistake(Record):
    """A test example on which the candidate is most wrong.

    `label` and `predicted` are classes, or values of a regression; `probability` is that of the
    wrong class, None for a regression.
    """

    key: str
    span: str
    label: int | float
    predicted: int | float
    probability: float | None


class EvaluatedTask(Record):
    """A task that was measured. The gate reads the first.

    `example_weight` is the feature that says how much an example counts; None: all the same.
    """

    name: str
    kind: TaskKind
    example_weight: str | None = None


class Evaluation(FileRecord):
    """Everything measured on the test split.

    `candidate` names the instance that faces the champion.

    `window` holds the spans that were trained and tested on, oldest first. `differences` hold the
    gate's metric of the first task, and of each other task its own. Confusion, mistakes, fairness
    and the comparisons with the `trivial` predictor (None: in older records) and of the champion
    with `former` ones are of the first task; there is no confusion of a regression, nor of more
    than 100 classes. Calibration is of every task with classes. `newest` is of the gate's metric,
    of the candidate and the champion.
    """

    FILE: ClassVar[str] = "evaluation.json"

    candidate: str
    digest: str
    champion: Champion | None
    window: list[Span] = []
    tasks: list[EvaluatedTask]
    trainings: list[Training]
    examples: int
    slices: list[SliceMetrics]
    differences: list[Difference]
    confusion: list[ConfusionMatrix]
    mistakes: list[Mistake]
    trivial: TrivialPredictor | None = None
    former: list[FormerChampion] = []
    serving: ServingDistribution | None = None
    fairness: Fairness | None = None
    calibration: list[Calibration] = []
    newest: list[NewestSpan] = []
    outliers: list[Outlier] = []
    not_compared: list[str]

    def overall(self, model: str) -> SliceMetrics | None:
        """Gives the first task's overall metrics of a model, if it was evaluated."""
        first = self.tasks[0].name
        matches = (
            row
            for row in self.slices
            if (row.model, row.task, row.slice) == (model, first, OVERALL)
        )
        return next(matches, None)


class CovariateProbe(Record):
    """The result of one probe of a suspect feature, beside what chance gives.

    `permute`: the loss on the examples as they are (`value`), and with the feature permuted
    (`chance`: mean; `spread`: standard deviation). `invert`: the loss with the feature turned into
    its opposite, beside the same permutations. `latent`: how well the latent vector tells the
    feature, beside what it tells of one shuffled among equal labels. `p_value` is corrected for the
    number of probes; `flagged`: the feature's own is more than chance.
    """

    feature: str
    probe: Literal["permute", "invert", "latent"]
    value: float
    chance: float
    spread: float
    p_value: float
    flagged: bool
    unit: str


class SuspectFeature(Record):
    """A feature that the candidate must not have learned.

    `is_read`: its values reach the candidate's outputs, by the graph that is served. `not_compared`
    says why no probe can tell whether it was learned; None: the probes tell.
    """

    name: str
    is_read: bool
    not_compared: str | None = None


class LeakingFeature(Record):
    """A feature that the candidate reads and that alone gives the label away.

    Of classes: `parts` are the intervals of its values, or its values where they have no order,
    that each hold examples of one class only. Of values: `parts` is None, and the label follows
    from the feature's but for 0.1% of its variance. `examples` were looked at.
    """

    name: str
    examples: int
    parts: int | None = None


class FeatureImportance(Record):
    """The loss of the metric when a raw feature is permuted, with an interval.

    Positive: the model needs the feature.
    """

    feature: str
    loss: float
    low: float
    high: float
    cost: float | None = None


class DroppedFeatures(Record):
    """The loss when features are permuted together, and what it saves not to acquire them."""

    features: list[str]
    saved: float
    loss: float
    low: float
    high: float


class Attribution(Record):
    """Integrated gradients of a transformed feature.

    The mean absolute attribution over the explained examples.

    `elements` are those of each element of a feature that is a vector or image, flat, in `shape`;
    else empty.
    """

    feature: str
    mean: float
    elements: list[float] = []
    shape: list[int] = []


class ExampleAttribution(Record):
    """The reasons for the candidate's answer to one example.

    What each transformed feature adds to the output.

    `output` is the probability of the predicted class, or the value; `baseline` is that of the
    average example. `attributions` sum to `output - baseline`, but for `gap`.
    """

    key: str
    span: str
    label: int | float
    predicted: int | float
    output: float
    baseline: float
    attributions: dict[str, float]
    gap: float


class Probing(FileRecord):
    """The features that the candidate's answers rest on.

    Probes for hidden covariates, importances, costs, attributions.

    `metric` is that of importances and `drops`; `suspects` are the features that were to be probed;
    `leaks` those that alone give the label away; `not_probed` says what could not be looked at, and
    why.
    """

    FILE: ClassVar[str] = "probing.json"

    digest: str
    metric: Metric
    examples: int
    suspects: list[SuspectFeature] = []
    covariates: list[CovariateProbe] = []
    leaks: list[LeakingFeature] = []
    importances: list[FeatureImportance] = []
    drops: list[DroppedFeatures] = []
    attributions: list[Attribution] = []
    explained: list[ExampleAttribution] = []
    not_probed: list[str] = []

    @property
    def learned(self) -> list[str]:
        """Names the suspect features that a probe flagged."""
        return list(dict.fromkeys(probe.feature for probe in self.covariates if probe.flagged))


CriterionKind = Literal[
    "floor",
    "trivial",
    "difference",
    "former",
    "slice",
    "newest_span",
    "fairness",
    "covariate",
    "leak",
]


class Criterion(Record):
    """One thing the gate asked: its numbers, interval and verdict.

    `value` is what was measured of `metric`, with its interval (`low`, `high`, at `confidence`)
    where it has one; `limit` is what was required. What was not `compared` did not pass. Only a
    `blocking` one that did not pass keeps the champion; any other is a warning. `metric` is None
    where no metric is measured, and in older records.
    """

    name: str
    passed: bool
    explanation: str
    kind: CriterionKind = "difference"
    metric: Metric | None = None
    blocking: bool = True
    compared: bool = True
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    confidence: float | None = None


class Decision(FileRecord):
    """Promote or keep, with every criterion, the reasons in words, and what was not compared."""

    FILE: ClassVar[str] = "decision.json"

    promote: bool
    criteria: list[Criterion]
    reasons: list[str]
    not_compared: list[str]

    @property
    def worth_repeating(self) -> bool:
        """Tells whether other draws could decide otherwise.

        All that failed was compared, and is no fall of the newest span, which is that of the data.
        """
        failed = [
            criterion for criterion in self.criteria if criterion.blocking and not criterion.passed
        ]
        drawn = (each.compared and each.kind != "newest_span" for each in failed)
        return not self.promote and bool(failed) and all(drawn)

    @property
    def warnings(self) -> list[Criterion]:
        """The criteria that did not pass and only warn."""
        return [
            criterion
            for criterion in self.criteria
            if not criterion.passed and not criterion.blocking
        ]


class ModelVersion(Record):
    """A version in the registry."""

    name: str
    version: str
    digest: str
    source: str
    mlflow_run: str


class ServingCheck(FileRecord):
    """The real server's answers to real examples, beside what evaluation computed for them."""

    FILE: ClassVar[str] = "serving_check.json"

    passed: bool
    requests: int
    largest_difference: float
    seconds_to_ready: float
    message: str
