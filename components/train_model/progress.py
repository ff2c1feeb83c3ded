"""The progress of a training, which a killed one resumes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from components.train_model.logs import Point
from perennial.errors import TrainingError
from perennial.training.checkpoints import Checkpoint, Checkpoints
from perennial.training.trainer import Trainer
from perennial.training.weights import Weights
from schemas.records import Epoch, Record

_STATE, _BEST = "state", "best"


class Progress(Record):
    """Everything that was trained so far.

    `steps` is the number of global steps; `losses` are those of the epoch that is going on;
    `points` and `times` (seconds since 1970, by epoch) are what is logged; `seconds` were spent so
    far.
    """

    steps: int = 0
    epochs: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    losses: tuple[float, ...] = ()
    points: tuple[Point, ...] = ()
    times: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def eval_losses(self) -> Sequence[float]:
        """Gives the eval losses by epoch."""
        return [epoch.eval_loss for epoch in self.epochs]


@dataclass
class Resumption:
    """The state that a training begins with: nothing yet, or that of its newest checkpoint."""

    progress: Progress = field(default_factory=Progress)
    best: Weights = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    resumed_from: int | None = None


def resume(trainer: Trainer, checkpoints: Checkpoints) -> Resumption:
    """Sets the trainer to the newest checkpoint that can be read, if there is one.

    Raises:
        TrainingError: The checkpoint is of another architecture.
    """
    checkpoint, notes = checkpoints.newest()
    if checkpoint is None:
        return Resumption(notes=notes)
    progress = _restore(trainer, checkpoint, checkpoints.place)
    best = checkpoint.groups.get(_BEST, {})
    return Resumption(progress, best, notes, len(progress.epochs))


def save_progress(
    trainer: Trainer, checkpoints: Checkpoints, progress: Progress, best: Weights
) -> None:
    """Publishes a checkpoint."""
    groups: dict[str, Any] = {_STATE: trainer.state(), _BEST: best}
    checkpoints.save(progress.steps, progress.model_dump_json(), groups)


def _restore(trainer: Trainer, checkpoint: Checkpoint, folder: str) -> Progress:
    try:
        trainer.restore(checkpoint.groups.get(_STATE, {}))
    except TrainingError as error:
        raise TrainingError(
            where=f"checkpoint {checkpoint.place}",
            expected="must be of the model that build_model builds now",
            received=error.received,
            remedy=f"Remove {folder} to train from the start, or bring back the model that wrote "
            "it.",
        ) from error
    return Progress.model_validate_json(checkpoint.text)
