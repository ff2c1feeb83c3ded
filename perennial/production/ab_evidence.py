"""Reads what a test knows, its answers and labels in the log, and acts on it.

A unit is everything that hangs together: the answers to one key (or to one group of
`evaluate.group`), and the instances of one request, which one version answers together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from perennial.errors import NotComparedError
from perennial.ledger.events import Ledger, body_of
from perennial.production.ab_test import (
    GUARD_CENTRE,
    Answers,
    Evidence,
    PairedAnswers,
    compare_paired,
    compare_split,
    decide,
    describe,
    guard_errors,
    quality_errors,
)
from perennial.production.arms import Challenger, end_test
from perennial.production.confidence_sequence import Array
from perennial.production.labels import (
    LabelledPredictions,
    LoggedPredictions,
    read_labelled,
    read_requests,
    without_labels,
)
from perennial.production.log_files import LogFiles
from perennial.production.sample_ratio import ArmCounts, check_sample_ratio
from perennial.tasks import Task
from schemas.prediction_log import FEATURE, KEY
from schemas.project import ABSettings
from schemas.records import (
    CANDIDATE,
    OVERALL,
    ABAction,
    ABComparison,
    ABEnded,
    ABMeasure,
    ABOutcome,
    ABShareChanged,
    ABStarted,
    ABVerdict,
    Champion,
    Evaluation,
)

if TYPE_CHECKING:
    from perennial.project import Project

# Servers follow a new share within 2 seconds: what they answer in this time is left out.
SETTLING = np.timedelta64(10, "s")
# The champion's loss, where its evaluation does not say.
_UNKNOWN_CENTRE = 0.2
_OUTCOMES: dict[ABAction, ABOutcome] = {
    "promote": "promoted",
    "roll_back": "rolled_back",
    "expire": "expired",
    "invalid": "invalid",
}
P = TypeVar("P", bound=LoggedPredictions)


@dataclass(frozen=True)
class Period:
    """A time in which every server gave the challenger the same share."""

    begin: np.datetime64
    end: np.datetime64
    share: float

    def holds(self, times: Array) -> Array:
        """Tells which moments lie in it, bool [n]."""
        return np.asarray((times >= self.begin) & (times < self.end))


def judge_test(project: Project, ledger: Ledger, tested: Challenger, now: datetime) -> ABVerdict:
    """Reads what a test knows, and decides what follows.

    Raises:
        DataError: A file of the log, or a landed span, cannot be read.
        StoreError: The root cannot be read.
        LedgerError: The ledger cannot be read.
        ProjectError: The secret of hashed keys is missing.
        RegistryError: The champion's evaluation cannot be read.
    """
    return decide(gather_evidence(project, ledger, tested, now), project.settings.ab)


def act_on(project: Project, ledger: Ledger, tested: Challenger, verdict: ABVerdict) -> bool:
    """Promotes the challenger or ends its test, with all that was seen; False: nothing to do.

    It is done once, however often it is asked: a test ends once.

    Raises:
        LedgerError: The ledger does not accept it, or the test has ended meanwhile.
        RegistryError: The challenger is not in the registry any more.
        IntegrityError: Its files are not those that were registered.
    """
    from perennial.registry.deployments import promote_version

    if verdict.action == "wait":
        return False
    ended = ABEnded(
        test=tested.test, outcome=_OUTCOMES[verdict.action], reasons=all_reasons(verdict)
    )
    if verdict.action == "promote":
        why = f"A/B test {tested.test}: {verdict.reasons[0]}"
        promote_version(project, tested.version, why, ended)
        return True
    return end_test(ledger, ended.test, ended.outcome, ended.reasons)


def all_reasons(verdict: ABVerdict) -> list[str]:
    """Lists why, and everything that was compared."""
    compared = [each for each in (verdict.quality, *verdict.guards) if each is not None]
    seen = [describe(each) for each in compared]
    told = " ".join(verdict.reasons)
    return [*verdict.reasons, *(f"seen: {line}" for line in seen if line not in told)]


def gather_evidence(
    project: Project, ledger: Ledger, tested: Challenger, now: datetime
) -> Evidence:
    """Reads what a test knows: see `judge_test` for what it raises."""
    since = datetime.fromisoformat(tested.since)
    settings = project.settings.ab
    periods = read_periods(ledger, tested)
    requests = _of_test(read_requests(project, since), tested)
    try:
        labelled = read_labelled(project, since)
    except NotComparedError as error:
        labelled = without_labels(project.tasks[0], str(error))
    labelled = _of_test(labelled, tested)
    groups = _read_groups(project, since)
    quality = None
    if len(labelled.key):
        quality = _compare_quality(project, ledger, tested, labelled, groups, periods)
    units = units_of(requests, groups)
    invalid = ""
    if not tested.shadow:
        invalid = find_skewed_split(requests, units, periods)
        skewed = find_skewed_split(labelled, units_of(labelled, groups), periods)
        if skewed and not invalid:
            invalid = f"labels come for one version more often than for the other: {skewed}"
    guards = [] if tested.shadow else compare_guards(requests, units, periods, settings)
    return Evidence(
        days=(now - since).total_seconds() / 86400,
        quality=quality,
        guards=guards,
        max_days=tested.max_days,
        invalid=invalid,
        unlabelled="; ".join(labelled.notes),
    )


def read_periods(ledger: Ledger, tested: Challenger) -> list[Period]:
    """Reads the shares that the challenger had, oldest first."""
    (began,) = [e for e in ledger.events("ab_started") if e.number == tested.test]
    shares = [(began.at, body_of(began, ABStarted).share)]
    for event in ledger.events("ab_share_changed", after=began.number):
        changed = body_of(event, ABShareChanged)
        if changed.test == tested.test:
            shares.append((event.at, changed.share))
    times = [_moment(at) for at, _ in shares]
    last = np.datetime64("9999-01-01", "us")
    return [
        # No row names a test that its server did not follow yet, so the first share needs no time.
        Period(begin if begin == times[0] else begin + SETTLING, end, share)
        for (begin, end), (_, share) in zip(pairwise([*times, last]), shares, strict=True)
    ]


def compare_guards(
    requests: LoggedPredictions, units: Array, periods: Sequence[Period], settings: ABSettings
) -> list[ABComparison]:
    """Compares how many answers are slow, and how many failed.

    An answer of the challenger failed where the champion had to give it. The champion's own
    failures are answered with an error and are not in the log.
    """
    challenger = requests.assigned == "challenger"
    slow = requests.latency_ms > settings.slow_ms
    failed = challenger & (requests.arm != "challenger")
    measures: list[tuple[ABMeasure, Array, float]] = [
        ("slow", slow, settings.slow_allowed),
        ("failed", failed, settings.failed_allowed),
    ]
    return [
        compare_split(
            measure,
            _answers(requests, units, losses.astype(np.float64), periods),
            GUARD_CENTRE,
            guard_errors(settings),
            allowed,
        )
        for measure, losses, allowed in measures
        if len(units)
    ]


def find_skewed_split(requests: LoggedPredictions, units: Array, periods: Sequence[Period]) -> str:
    """Says how the split differs from what it should be; empty: it may be the intended one.

    A unit counts in the first period in which it was seen: later it stays with its version.
    """
    counts = []
    seen: set[int] = set()
    for period in periods:
        if not 0 < period.share < 1:
            continue
        inside = period.holds(requests.time)
        arms = {
            arm: set(units[inside & (requests.assigned == arm)].tolist()) - seen
            for arm in ("champion", "challenger")
        }
        seen |= arms["champion"] | arms["challenger"]
        shares = {"champion": 1 - period.share, "challenger": period.share}
        counts.append(ArmCounts({arm: len(own) for arm, own in arms.items()}, shares))
    if not counts:
        return ""
    ratio = check_sample_ratio(counts)
    return "" if ratio.fits else ratio.describe()


def units_of(predictions: LoggedPredictions, groups: dict[str, str]) -> Array:
    """Numbers the unit of each prediction, int [n].

    Predictions of one key or group belong together, and so do those of one request.

    Args:
        predictions: Of both versions; those of one request have the same time.
        groups: The group of each key, where the project names a feature that groups.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(predictions.time)
    if not count:
        return np.zeros(0, dtype=np.int64)
    names = [
        f"request {time}" if key is None else groups.get(key, key)
        for key, time in zip(predictions.key.tolist(), predictions.time.tolist(), strict=True)
    ]
    keys = np.unique(np.array(names, dtype=str), return_inverse=True)[1]
    requests = np.unique(predictions.time, return_inverse=True)[1] + keys.max() + 1
    nodes = int(requests.max()) + 1
    edges = coo_array((np.ones(count), (keys, requests)), shape=(nodes, nodes))
    labels: Array = connected_components(edges, directed=False)[1]
    return labels[keys]


def measure_losses(measure: ABMeasure, scores: Array, labels: Array, largest: float) -> Array:
    """Gives the loss of each labelled prediction, float [n], at most `largest`.

    Source: Brier 1950, halved, so that it lies between 0 and 1 for any number of classes.

    Args:
        measure: `accuracy` or `brier` of classes, `absolute_error` of values.
        scores: Class probabilities, float [n, classes], or values, float [n].
        labels: Classes, int [n], or values, float [n].
        largest: What larger errors count as.
    """
    if measure == "accuracy":
        return np.asarray(scores.argmax(axis=1) != labels, dtype=np.float64)
    if measure == "brier":
        width = max(scores.shape[1], int(labels.max(initial=0)) + 1)
        padded = np.pad(scores, ((0, 0), (0, width - scores.shape[1])))
        truth = np.eye(width)[labels]
        return np.asarray(((padded - truth) ** 2).sum(axis=1) / 2)
    return np.asarray(np.minimum(np.abs(scores - labels), largest))


def choose_measure(settings: ABSettings, task: Task) -> ABMeasure:
    """Gives what decides: by default what people read most easily, and what has bounds."""
    return settings.metric or ("accuracy" if task.is_classes else "absolute_error")


def largest_loss(project: Project, task: Task) -> float:
    """Gives the greatest loss: of values the width of the label's domain in the schema, if set."""
    if task.is_classes:
        return 1.0
    for feature in project.schema.feature:
        if feature.name != task.label:
            continue
        for domain in (feature.float_domain, feature.int_domain):
            if domain.max > domain.min:
                return float(domain.max) - float(domain.min)
    return math.inf


def _compare_quality(
    project: Project,
    ledger: Ledger,
    tested: Challenger,
    labelled: LabelledPredictions,
    groups: dict[str, str],
    periods: Sequence[Period],
) -> ABComparison | None:
    task, settings = labelled.task, project.settings.ab
    measure, largest = choose_measure(settings, task), largest_loss(project, task)
    units = units_of(labelled, groups)
    losses = measure_losses(measure, labelled.scores, labelled.label, largest)
    errors = quality_errors(settings)
    if tested.shadow:
        paired = _pair(labelled, units, losses, largest)
        return compare_paired(measure, paired, errors) if len(paired) else None
    answers = replace(_answers(labelled, units, losses, periods), largest=largest)
    if not len(answers):
        return None
    champion = ledger.champion()
    centre = _centre(project, champion, largest) if champion is not None else _UNKNOWN_CENTRE
    return compare_split(measure, answers, centre, errors)


def _answers(
    predictions: LoggedPredictions, units: Array, losses: Array, periods: Sequence[Period]
) -> Answers:
    """Takes the answers of the times in which the share is known."""
    shares = np.full(len(units), math.nan)
    for period in periods:
        shares[period.holds(predictions.time)] = period.share
    known = np.isfinite(shares) & (shares > 0) & (shares < 1)
    return Answers(
        units[known],
        (predictions.assigned == "challenger")[known],
        losses[known],
        shares[known],
        predictions.chance[known],
    )


def _pair(
    labelled: LabelledPredictions, units: Array, losses: Array, largest: float
) -> PairedAnswers:
    """Pairs the answers of champion and shadow to the same key in the same request."""
    shadows = {
        (key, time): number
        for number, (key, time, arm) in enumerate(_names(labelled))
        if arm == "shadow"
    }
    pairs = [
        (number, shadows[key, time])
        for number, (key, time, arm) in enumerate(_names(labelled))
        if arm == "champion" and (key, time) in shadows
    ]
    champion, shadow = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return PairedAnswers(
        units[champion], losses[champion], losses[shadow], labelled.chance[champion], largest
    )


def _names(labelled: LabelledPredictions) -> Iterator[tuple[str, int, str]]:
    return zip(
        labelled.key.tolist(),
        labelled.time.astype(np.int64).tolist(),
        labelled.arm.tolist(),
        strict=True,
    )


def _of_test(predictions: P, tested: Challenger) -> P:
    rows = predictions.test == tested.test
    columns = {
        name: value[rows]
        for name, value in vars(predictions).items()
        if isinstance(value, np.ndarray)
    }
    return replace(predictions, **columns)


def _read_groups(project: Project, since: datetime) -> dict[str, str]:
    """Reads the group of each key, from the feature that `evaluate.group` names."""
    group = project.settings.evaluate.group
    if group is None:
        return {}
    wanted = {KEY, f"{FEATURE}{group}"}
    groups: dict[str, str] = {}
    for table in LogFiles.of_project(project).read(since.date(), lambda name: name in wanted):
        if set(table.column_names) == wanted:
            columns = (table[KEY].to_pylist(), table[f"{FEATURE}{group}"].to_pylist())
            groups |= {
                key: f"group {value}"
                for key, value in zip(*columns, strict=True)
                if key is not None and value is not None
            }
    return groups


def _centre(project: Project, champion: Champion, largest: float) -> float:
    """Gives the champion's loss as it was evaluated before the test, as a share of the largest.

    It makes the bounds narrow and is never relied on: they hold with any value that was chosen
    before.
    """
    from perennial.registry.versions import Registry

    registry = Registry(project)
    text = registry.document(registry.version(champion.version), Evaluation.FILE)
    if text is None:
        return _UNKNOWN_CENTRE
    evaluation = Evaluation.model_validate_json(text)
    task = evaluation.tasks[0].name
    rows = [
        s for s in evaluation.slices if (s.model, s.task, s.slice) == (CANDIDATE, task, OVERALL)
    ]
    values = rows[0].values if rows else {}
    if "accuracy" in values:
        return 1 - values["accuracy"]
    error = values.get("mean_absolute_error", math.nan)
    if not math.isfinite(error):
        return _UNKNOWN_CENTRE
    return min(error / largest, 1.0) if math.isfinite(largest) else error


def _moment(at: str) -> np.datetime64:
    return np.datetime64(datetime.fromisoformat(at).replace(tzinfo=None), "us")
