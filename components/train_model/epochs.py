"""The epochs of one training: early stopping, the best epoch's weights, checkpoints and logs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from components.train_model.cluster import Agreement
from components.train_model.logs import Point, TrainingLogs
from components.train_model.progress import Progress, Resumption, save_progress
from perennial.training.batches import TrainingBatches
from perennial.training.checkpoints import Checkpoints
from perennial.training.trainer import Steps, Trainer, require_finite, warm_up
from perennial.training.weights import Weights, weights_of
from schemas.project import TrainSettings
from schemas.records import Epoch

# A curve needs no more points to be read.
_POINTS_PER_EPOCH = 20


def should_stop(losses: Sequence[float], patience: int) -> bool:
    """Tells whether the last `patience` epochs all failed to beat the lowest loss before them."""
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


@dataclass
class Fitting:
    """Trains until the eval loss has not fallen for `train.patience` epochs.

    `rate` is the learning rate after `warm_up_steps` global steps. Checkpoints and logs are None in
    a process that writes none: another one of its cluster does.
    """

    trainer: Trainer
    batches: TrainingBatches
    train: TrainSettings
    rate: float
    warm_up_steps: int
    agreement: Agreement
    checkpoints: Checkpoints | None
    logs: TrainingLogs | None

    def fit(self, resumption: Resumption) -> tuple[Progress, Weights]:
        """Goes on from there to the end; gives the history and the best epoch's weights.

        Raises:
            TrainingError: A loss is not finite.
        """
        began, spent = time.monotonic(), resumption.progress.seconds
        progress, best = resumption.progress, resumption.best
        self._log(Progress(), progress)
        self.trainer.feed(self.batches, progress.steps)
        while not self._finished(progress):
            before, progress = progress, self._train(progress)
            if progress.steps % self._per_epoch == 0:
                progress = self._measure(progress)
                if progress.best_epoch == len(progress.epochs) - 1:
                    best = weights_of(self.trainer.model)
            progress = progress.model_copy(update={"seconds": spent + time.monotonic() - began})
            self._log(before, progress)
            if self.checkpoints is not None:
                save_progress(self.trainer, self.checkpoints, progress, best)
        return progress, best

    @property
    def _per_epoch(self) -> int:
        return self.batches.steps_per_epoch(self.trainer.strategy.num_replicas_in_sync)

    def _finished(self, progress: Progress) -> bool:
        if len(progress.epochs) >= self.train.epochs:
            return True
        return should_stop(progress.eval_losses, self.train.patience)

    def _train(self, progress: Progress) -> Progress:
        """Trains to the next checkpoint or the end of the epoch, whichever comes first."""
        first = progress.steps
        last = (first // self._per_epoch + 1) * self._per_epoch
        if self.train.checkpoint_steps is not None:
            last = min(
                last, (first // self.train.checkpoint_steps + 1) * self.train.checkpoint_steps
            )
        rates = [warm_up(step, self.warm_up_steps, self.rate) for step in range(first, last)]
        done = self.trainer.train(rates)
        points = (*progress.points, *self._points(first, rates, done))
        return progress.model_copy(
            update={"steps": last, "losses": (*progress.losses, *done.losses), "points": points}
        )

    def _points(self, first: int, rates: Sequence[float], done: Steps) -> list[Point]:
        at, every = time.time(), max(1, self._per_epoch // _POINTS_PER_EPOCH)
        return [
            Point(step=first + place + 1, at=at, loss=loss, gradient_norm=norm, learning_rate=rate)
            for place, (rate, loss, norm) in enumerate(
                zip(rates, done.losses, done.gradient_norms, strict=True)
            )
            if (first + place) % every == 0
        ]

    def _measure(self, progress: Progress) -> Progress:
        """Ends an epoch.

        The workers of a cluster go by what the chief measured, so that all stop at once.
        """
        measured = self.trainer.measure("eval", self.batches.features)
        loss, metric = self.agreement.with_chief([measured.loss, measured.metric])
        epoch = Epoch(
            train_loss=fmean(progress.losses), eval_loss=require_finite(loss), eval_metric=metric
        )
        epochs = (*progress.epochs, epoch)
        best = (
            progress.best_epoch
            if progress.epochs and loss > min(progress.eval_losses)
            else len(epochs) - 1
        )
        times = (*progress.times, time.time())
        return progress.model_copy(
            update={"epochs": epochs, "best_epoch": best, "times": times, "losses": ()}
        )

    def _log(self, before: Progress, now: Progress) -> None:
        if self.logs is not None:
            self.logs.add_points(now.points[len(before.points) :])
            self.logs.add_epochs(now.epochs, now.times, len(before.epochs))
