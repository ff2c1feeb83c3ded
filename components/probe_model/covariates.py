"""Probes for hidden covariates: does the model rest on a feature that it must not have learned?

The null hypothesis is that, given everything else, the feature's values could as well be shuffled
among the examples.

`permute`: is the loss on the examples as they are lower than with shuffled values? Then the model
gains by the feature.
`invert`: is the loss with the feature turned into its opposite higher than with shuffled values?
The opposite is made of the same values: of numbers, the example of rank r gets the value of rank
n - 1 - r; of names, each gets the value that lies half of the sorted column away. So under the null
it is one more shuffle. To swap the values of a flag instead would change how many examples have it:
where 90% have it, the loss of a model that weighs it by chance alone would move beyond all
shuffles.
`latent`: see `latent.py`. A feature that the model reads passes to the latent vector even through
random weights; so this probe decides only on features that the model does not read. Where the
feature and the label are one thing it can tell nothing, and is not made.

Each compares one number with those of R shuffles, which under the null are drawn alike, by a t-test
for one new observation. All probes that decide, of all features, are corrected together. Sources:
Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses", chapter 1 (exchangeability);
Hahn and Meeker 1991, "Statistical Intervals", section 4.7 (t with R - 1 degrees of freedom and the
factor sqrt(1 + 1 / R)); Bonferroni's inequality.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from components.probe_model.latent import EXPLAINED, effective_examples, variance_explained
from components.probe_model.probed_model import ProbedModel, is_constant
from perennial.evaluation.comparison import example_losses
from perennial.evaluation.prediction_table import Array
from perennial.tasks import metric_words
from schemas.project import CovariateSettings
from schemas.records import CovariateProbe, SuspectFeature

_SEED = 20170
# With fewer examples (or fewer effective ones) the folds of the latent probe hold next to nothing,
# and a shuffle changes too little.
LEAST_EXAMPLES = 20
# Sums of the same losses in float64 differ by less.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Suspect:
    """A feature that the model must not have learned.

    Attributes:
        name: Of the feature.
        values: Of the examples, [n] or [n, ...]; numbers, text or bytes.
        is_number: Whether its values have an order; else they are names.
        is_read: Whether the model reads it: then it is one of its columns. A column that it is
            given and makes nothing of is not read.
    """

    name: str
    values: Array
    is_number: bool
    is_read: bool


@dataclass(frozen=True)
class Findings:
    """The results of the probes, of which features, and what could not be probed, in words."""

    probes: list[CovariateProbe] = field(default_factory=list)
    suspects: list[SuspectFeature] = field(default_factory=list)
    not_probed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Chance:
    """A number, and the shuffles' numbers, float [repeats]; `more` is the direction that flags."""

    value: float
    shuffled: Array
    more: Literal["lower", "higher"]

    @property
    def p_value(self) -> float:
        """Gives the probability that one more shuffle gives so extreme a number."""
        from scipy import stats

        distance = self.value - float(self.shuffled.mean())
        distance = distance if self.more == "higher" else -distance
        repeats, spread = len(self.shuffled), float(self.shuffled.std(ddof=1))
        if spread <= _ROUNDING * max(
            1.0, abs(self.value)
        ):  # the model does not use the feature at all
            return 0.0 if distance > _ROUNDING * max(1.0, abs(self.value)) else 1.0
        return float(stats.t.sf(distance / (spread * math.sqrt(1 + 1 / repeats)), repeats - 1))


def probe_covariates(
    model: ProbedModel, suspects: Sequence[Suspect], settings: CovariateSettings
) -> Findings:
    """Probes every suspect feature.

    The chance that any innocent feature is flagged is at most `settings.false_alarms`.

    Args:
        model: The model and the examples, which it was not trained on.
        suspects: Features, of the same examples.
        settings: Number of shuffles, and chance of false alarms.
    """
    results, judged, not_probed = [], [], []
    for suspect in suspects:
        refused = _refuse(suspect)
        no_latent = refused or _refuse_latent(model, suspect)
        why = no_latent if not suspect.is_read else refused
        judged.append(SuspectFeature(name=suspect.name, is_read=suspect.is_read, not_compared=why))
        if why:
            not_probed.append(not_compared(suspect.name, why))
            continue
        probes = _probe(model, suspect, settings.repeats, with_latent=no_latent is None)
        results += probes
        done = {probe.probe for probe in probes}
        not_probed += [
            f"suspect feature `{suspect.name}` {text}"
            for text in _left_out(suspect, done, no_latent)
        ]
    return Findings(_correct(results, suspects, settings.false_alarms), judged, not_probed)


def not_compared(name: str, why: str) -> str:
    """Says that nothing can be told of a suspect feature."""
    return f"suspect feature `{name}`: {why}"


def opposite(values: Array, is_number: bool, random: np.random.Generator) -> Array:
    """Gives the values [n] in the opposite order; a shuffle orders equal ones.

    Of numbers, the example of rank r gets the value of rank n - 1 - r. Of names, each gets the
    value that lies half of the sorted column away; where half of the examples have a flag, that
    swaps it.
    """
    shuffled = random.permutation(len(values))
    order = shuffled[np.argsort(values[shuffled], kind="stable")]
    turned = np.empty_like(values)
    turned[order] = values[order[::-1] if is_number else np.roll(order, -(len(values) // 2))]
    return turned


def _refuse(suspect: Suspect) -> str | None:
    if len(suspect.values) < LEAST_EXAMPLES:
        return f"{len(suspect.values)} examples are too few (at least {LEAST_EXAMPLES})"
    if is_constant(suspect.values):
        return f"all {len(suspect.values)} examples have the same value"
    return None


def _refuse_latent(model: ProbedModel, suspect: Suspect) -> str | None:
    """Says why the latent vector tells nothing of a suspect feature."""
    unread = "" if suspect.is_read else "the model does not read it, and "
    if suspect.values.ndim > 1:
        return f"{unread}a vector or image cannot be predicted from the latent vector"
    if model.latent is None:
        return f"{unread}the model gives no latent vector"
    is_classes = model.predictions.ndim > 1
    effective = effective_examples(suspect.values, suspect.is_number, model.labels, is_classes)
    if effective >= LEAST_EXAMPLES:
        return None
    return (
        f"{unread}it cannot be told from the label, which leaves it {effective:.0f} effective "
        f"examples of {len(suspect.values)} (at least {LEAST_EXAMPLES})"
    )


def _probe(
    model: ProbedModel, suspect: Suspect, repeats: int, with_latent: bool
) -> list[CovariateProbe]:
    # Each feature has its own draws, so that naming one more changes nothing for the others.
    random = np.random.default_rng([_SEED, zlib.crc32(suspect.name.encode())])
    results: list[CovariateProbe] = []
    if suspect.is_read:
        results += _disturb(model, suspect, repeats, random)
    if with_latent:
        value, shuffled = variance_explained(
            model, suspect.values, suspect.is_number, repeats, random
        )
        results.append(_record(suspect, "latent", Chance(value, shuffled, "higher"), EXPLAINED))
    return results


def _disturb(
    model: ProbedModel, suspect: Suspect, repeats: int, random: np.random.Generator
) -> list[CovariateProbe]:
    def loss(values: Array) -> float:
        predictions = model.predict_with({suspect.name: values})
        return float(example_losses(predictions, model.labels, model.loss).mean())

    values, unit = suspect.values, metric_words(model.loss)
    shuffled = np.array([loss(values[random.permutation(len(values))]) for _ in range(repeats)])
    results = [_record(suspect, "permute", Chance(loss(values), shuffled, "lower"), unit)]
    if values.ndim == 1:
        turned = loss(opposite(values, suspect.is_number, random))
        results.append(_record(suspect, "invert", Chance(turned, shuffled, "higher"), unit))
    return results


def _record(
    suspect: Suspect, probe: Literal["permute", "invert", "latent"], chance: Chance, unit: str
) -> CovariateProbe:
    return CovariateProbe(
        feature=suspect.name,
        probe=probe,
        value=chance.value,
        chance=float(chance.shuffled.mean()),
        spread=float(chance.shuffled.std(ddof=1)),
        p_value=chance.p_value,
        flagged=False,
        unit=unit,
    )


def _left_out(suspect: Suspect, done: Set[str], no_latent: str | None) -> list[str]:
    if not suspect.is_read:
        return ["was not permuted or inverted: the model does not read it"]
    if "invert" not in done:
        return ["was not inverted or predicted from the latent vector: it is a vector or image"]
    return [f"was not predicted from the latent vector: {no_latent}"] if no_latent else []


def _correct(
    probes: Sequence[CovariateProbe], suspects: Sequence[Suspect], false_alarms: float
) -> list[CovariateProbe]:
    """Corrects the p-values of all probes; one that does not decide is never flagged."""
    read = {suspect.name for suspect in suspects if suspect.is_read}
    decides = [probe.probe != "latent" or probe.feature not in read for probe in probes]
    tests = max(1, sum(decides))
    corrected = [min(1.0, probe.p_value * tests) for probe in probes]
    return [
        probe.model_copy(update={"p_value": p, "flagged": deciding and p < false_alarms})
        for probe, p, deciding in zip(probes, corrected, decides, strict=True)
    ]
