"""Rows and words on what was trained: draws, trials, design spaces, instances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from perennial.report.facts import RunFacts
from perennial.report.formats import format_loss
from perennial.training.weight_draws import final_loss, healthy
from schemas.records import DesignComparison, DesignSample, Stabilisation, Training, Trial, Tuning

PRETEXTS = {
    "rotation": "they learned by how many quarter turns an image was turned",
    "masked_image": "they learned to fill in what was masked in images",
    "masked_features": "they learned to fill in features that were masked",
    "masked_words": "they learned to fill in words that were masked",
}


@dataclass(frozen=True)
class SpaceRow:
    """A design space: its samples, and their errors; that of a failed sample is infinite."""

    name: str
    samples: int
    failed: int
    least: float
    middle: float
    parameters: tuple[int, int] | None
    seconds: float


def why_chosen(stabilisation: Stabilisation) -> str:
    """Says why the chosen draw goes on."""
    draws, chosen = stabilisation.draws, stabilisation.draws[stabilisation.chosen]
    if len(draws) == 1:
        return "there was no other"
    rivals = [
        draw for draw in draws if (draw.finite, healthy(draw)) == (chosen.finite, healthy(chosen))
    ]
    among = (
        f"the {len(rivals)} healthy ones"
        if healthy(chosen)
        else "the draws, none of which was healthy"
    )
    if len(rivals) == 1:
        return (
            "no other was healthy"
            if healthy(chosen)
            else "none was healthy, and no other stayed finite"
        )
    own, lowest = final_loss(chosen.losses), min(final_loss(draw.losses) for draw in rivals)
    if own <= lowest:
        return f"of {among} its loss over the last steps is the lowest, {format_loss(own)}"
    return (
        f"of {among} its loss over the last steps, {format_loss(own)}, is about equal to the "
        f"lowest, {format_loss(lowest)}, and its gradients are the calmest"
    )


def best_trials_first(tuning: Tuning) -> list[Trial]:
    """Gives the trials that reached a finite loss, the lowest first."""
    finite = [
        (trial.loss, trial.number, trial) for trial in tuning.trials if trial.loss is not None
    ]
    return [
        trial for loss, _, trial in sorted(finite, key=lambda row: row[:2]) if math.isfinite(loss)
    ]


def chosen_rows(facts: RunFacts) -> list[tuple[str, object, list[object]]]:
    """Gives each hyperparameter's name, its value in the settings, and the chosen values.

    The value in the settings is None where it is the default of `build_model`.
    """
    best = facts.tuning.best if facts.tuning else []
    own = facts.settings_own
    rows: list[tuple[str, object, list[object]]] = [
        (
            "learning rate",
            own.learning_rate if own else None,
            [each.learning_rate for each in best],
        ),
        ("batch size", own.batch_size if own else None, [each.batch_size for each in best]),
    ]
    names = dict.fromkeys(name for each in best for name in each.model)
    if facts.by_run_fn:
        rows = []  # it reads neither of the two
    return rows + [(name, None, [each.model.get(name) for each in best]) for name in names]


def space_rows(comparison: DesignComparison) -> list[SpaceRow]:
    """Gives the design spaces in the order in which the settings name them."""
    return [_space_row(space, comparison) for space in comparison.spaces]


def failed_samples(comparison: DesignComparison) -> list[DesignSample]:
    """Gives the sampled models without a finite error."""
    return [
        sample
        for sample in comparison.samples
        if sample.error is None or not math.isfinite(sample.error)
    ]


def started_from(training: Training, facts: RunFacts) -> str:
    """Says where an instance's weights came from."""
    drawn = (
        "what run_fn makes"
        if facts.by_run_fn
        else "the chosen draw"
        if facts.stabilisation
        else "new weights"
    )
    if training.instance.start == "cold":
        return drawn
    if training.weights_from is None:  # an older record, which has it in its notes at most
        return "the champion, if it could be patched"
    if training.weights_from == "draw":
        return f"{drawn}: not patched"
    return "the champion, as base_model" if facts.by_run_fn else "the champion, patched"


def trained_on(training: Training) -> str:
    """Says by which strategy an instance was trained, and over how many workers and replicas."""
    strategy = (
        training.strategy if training.strategy == "run_fn" else training.strategy.replace("_", " ")
    )
    workers = f", {training.workers} workers" if training.workers > 1 else ""
    spread = training.replicas > 1 and training.replicas != training.workers
    return strategy + workers + (f", {training.replicas} replicas" if spread else "")


def remarks(training: Training) -> list[str]:
    """Lists what a person should know of an instance beside its numbers."""
    lines = []
    if training.resumed_from is not None:
        lines.append(
            f"was interrupted, and went on from its checkpoint in epoch {training.resumed_from + 1}"
        )
    if training.restarts:
        lines.append(f"workers died and were started again, {training.restarts}×")
    return [*lines, *training.notes]


def _space_row(space: str, comparison: DesignComparison) -> SpaceRow:
    samples = [sample for sample in comparison.samples if sample.space == space]
    # A model that failed counts as worse than all others, as in the comparison.
    errors = sorted(
        sample.error if sample.error is not None and math.isfinite(sample.error) else math.inf
        for sample in samples
    )
    sizes = [sample.parameters for sample in samples if sample.parameters]
    return SpaceRow(
        name=space,
        samples=len(samples),
        failed=sum(math.isinf(error) for error in errors),
        least=errors[0] if errors else math.nan,
        middle=median(errors) if errors else math.nan,
        parameters=(min(sizes), max(sizes)) if sizes else None,
        seconds=sum(sample.seconds for sample in samples),
    )
