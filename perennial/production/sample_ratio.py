"""Tells whether traffic is split between arms as it is meant to be, however often one looks.

A split that is not what it should be says that something between the request and the log treats the
arms differently; then their metrics cannot be compared.

Source: Lindon and Malek 2022, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS): the
Bayes factor of a Dirichlet mixture against the intended shares is a martingale, so by Ville's
inequality it exceeds 1 / alpha at any time with a chance of at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALPHA = 0.001
"""A chance of a false alarm at which a test is stopped: an alarm ends what took days to gather."""
# The mixture is centred on the intended shares, with the weight of so many keys: it is most
# sensitive to splits that are off by about 1 / sqrt of it.
_WEIGHT = 1000.0


@dataclass(frozen=True)
class ArmCounts:
    """Distinct keys of each arm while the shares stayed the same, and those shares (sum 1)."""

    counts: Mapping[str, int]
    shares: Mapping[str, float]


@dataclass(frozen=True)
class SampleRatio:
    """The outcome of a check.

    Attributes:
        p_value: Valid at every look: below `alpha` with a chance of at most `alpha`, ever.
        alpha: Below it the split is not the intended one.
        keys: Distinct keys of each arm.
        expected: How many each should have.
    """

    p_value: float
    alpha: float
    keys: Mapping[str, int]
    expected: Mapping[str, float]

    @property
    def fits(self) -> bool:
        """Tells whether the split may be the intended one."""
        return self.p_value >= self.alpha

    def describe(self) -> str:
        """Describes it in one line."""
        parts = (
            f"{arm} {self.keys.get(arm, 0)} (intended {expected:.0f})"
            for arm, expected in self.expected.items()
        )
        verdict = "as intended" if self.fits else "not as intended"
        return f"keys by arm are {verdict}: {', '.join(parts)}; p {self.p_value:.2g}"


def check_sample_ratio(periods: Sequence[ArmCounts], alpha: float = ALPHA) -> SampleRatio:
    """Checks the split of keys over periods with different shares, each key independent.

    Args:
        periods: Counts of one period each; an arm without a share must have no key.
        alpha: The chance of a false alarm, over all looks together.
    """
    evidence = sum(_log_bayes_factor(period) for period in periods)
    arms = dict.fromkeys(arm for period in periods for arm in period.shares)
    keys = {arm: sum(period.counts.get(arm, 0) for period in periods) for arm in arms}
    expected = {
        arm: sum(period.shares.get(arm, 0.0) * sum(period.counts.values()) for period in periods)
        for arm in arms
    }
    return SampleRatio(math.exp(-max(0.0, evidence)), alpha, keys, expected)


def _log_bayes_factor(period: ArmCounts) -> float:
    """Gives the log of the mixture's likelihood over that of the intended shares."""
    shares = {arm: share for arm, share in period.shares.items() if share > 0}
    if any(count for arm, count in period.counts.items() if arm not in shares):
        return math.inf  # keys where none can be
    counts = {arm: period.counts.get(arm, 0) for arm in shares}
    total = sum(counts.values())
    log = math.lgamma(_WEIGHT) - math.lgamma(_WEIGHT + total)
    for arm, share in shares.items():
        prior, count = _WEIGHT * share, counts[arm]
        log += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return log
