"""Rows and words on what the answers rest on: suspects, importances, attributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perennial.report.formats import format_number, scale_of
from schemas.records import (
    Attribution,
    CovariateProbe,
    DroppedFeatures,
    FeatureImportance,
    LeakingFeature,
    Probing,
    SuspectFeature,
)


def suspects(probing: Probing) -> list[str]:
    """Lists the suspect features, those that the answers rest on first."""
    named = [suspect.name for suspect in probing.suspects]
    probed = [probe.feature for probe in probing.covariates]  # older records name no suspects
    return sorted(dict.fromkeys([*named, *probed]), key=lambda name: name not in probing.learned)


def unknown_suspects(probing: Probing) -> list[SuspectFeature]:
    """Lists the suspect features of which it cannot be told whether they were learned."""
    return [suspect for suspect in probing.suspects if suspect.not_compared is not None]


def cleared_suspects(probing: Probing, is_read: bool) -> list[str]:
    """Lists the suspect features that no probe flagged: those that are read, or the others."""
    return [
        suspect.name
        for suspect in probing.suspects
        if suspect.not_compared is None
        and suspect.is_read == is_read
        and suspect.name not in probing.learned
    ]


def describe_leak(leak: LeakingFeature) -> str:
    """Says how a feature gives the label away."""
    if leak.parts is None:
        return f"the label follows from it alone in {leak.examples} test examples"
    return f"{leak.parts} parts of its values each hold one class, in {leak.examples} test examples"


def flagged_probes_first(probing: Probing) -> list[CovariateProbe]:
    """Sorts the probes: first those of flagged features."""
    order = suspects(probing)
    return sorted(
        probing.covariates, key=lambda probe: (order.index(probe.feature), not probe.flagged)
    )


def describe_probe(probe: CovariateProbe) -> str:
    """Says what a probe means."""
    if probe.probe == "latent":
        if probe.flagged:
            return "the latent vector tells it, beyond what the label explains"
        beyond = probe.value > probe.chance + 2 * probe.spread
        return (
            "the latent vector tells it, but that alone does not decide"
            if beyond
            else "not told beyond chance"
        )
    done = "shuffled" if probe.probe == "permute" else "turned into its opposite"
    return (
        f"answers get worse with it {done}"
        if probe.flagged
        else f"answers do not change beyond chance with it {done}"
    )


def probed_in_words(probing: Probing) -> str | None:
    """Says in a few words what was probed; None where nothing was."""
    features, unknown = suspects(probing), len(unknown_suspects(probing))
    leaks = f"{len(probing.leaks)} give the label away" if probing.leaks else ""
    if features:
        plural = "" if len(features) == 1 else "s"
        result = f"{len(probing.learned)} of {len(features)} suspect{plural} found"
        not_compared = f"{unknown} not compared" if unknown else ""
        return ", ".join(filter(None, [result, not_compared, leaks]))
    if leaks:
        return leaks
    explained = len(probing.importances) or len(probing.attributions)
    return f"{explained} feature{'' if explained == 1 else 's'} explained" if explained else None


def needed_first(importances: Sequence[FeatureImportance]) -> list[FeatureImportance]:
    """Sorts the features by what the model needs most; what is not a number comes last."""
    return sorted(importances, key=lambda row: (not math.isfinite(row.loss), -row.loss))


def largest_first(attributions: Sequence[Attribution]) -> list[Attribution]:
    """Sorts transformed features, the greatest attribution first; what is not a number last."""
    return sorted(attributions, key=lambda row: (not math.isfinite(row.mean), -row.mean))


def cheapest_first(drops: Sequence[DroppedFeatures]) -> list[DroppedFeatures]:
    """Sorts what is left out together, the fewest features first."""
    return sorted(drops, key=lambda row: len(row.features))


def by_pixel(elements: Sequence[float], shape: Sequence[int]) -> bool:
    """Tells whether the elements of a feature are an image or matrix of one channel."""
    plane = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    return plane and min(shape) > 0 and shape[0] * shape[1] == len(elements)


def per_cost(contribution: float, cost: float | None, metric: str) -> str:
    """Writes the contribution for each unit of cost, shares in points.

    What costs nothing, or has no known cost, gets a dash.
    """
    if not cost:
        return "–"
    return format_number(scale_of(metric) * contribution / cost)
