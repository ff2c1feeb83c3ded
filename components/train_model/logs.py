"""TensorBoard's logs of a training, rewritten from its history.

So a training that was resumed leaves one whole curve.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.records import Epoch, Record

if TYPE_CHECKING:
    from tensorboard.summary import Writer

TRAIN, EVAL = "train", "eval"


class Point(Record):
    """One logged training step: its global number from 1, its time and how it went.

    The time is in seconds since 1970.

    `loss` is the global batch's mean, `gradient_norm` that of the whole gradient before clipping.
    """

    step: int
    at: float
    loss: float
    gradient_norm: float
    learning_rate: float


class TrainingLogs:
    """Writes the curves of one training below a folder.

    TensorBoard shows its `train/` and `eval/` as two runs.

    By step: `batch_loss`, `gradient_norm`, `learning_rate`. By epoch: `epoch_loss` of both,
    `epoch_<metric>` of eval.

    Args:
        folder: Where to; what lay there is removed, as its curves are written again.
        metric: Name of what `Epoch.eval_metric` holds.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        from tensorboard.summary import Writer

        shutil.rmtree(folder, ignore_errors=True)
        self._metric = metric
        self._writers: dict[str, Writer] = {
            name: Writer(str(folder / name)) for name in (TRAIN, EVAL)
        }

    def add_points(self, points: Iterable[Point]) -> None:
        """Adds training steps."""
        for point in points:
            for name, value in (
                ("batch_loss", point.loss),
                ("gradient_norm", point.gradient_norm),
                ("learning_rate", point.learning_rate),
            ):
                self._add(TRAIN, name, value, point.step, point.at)

    def add_epochs(self, epochs: Sequence[Epoch], times: Sequence[float], first: int = 0) -> None:
        """Adds epochs, from the one numbered `first` on, and makes all visible to TensorBoard."""
        for number in range(first, len(epochs)):
            epoch, at = epochs[number], times[number]
            self._add(TRAIN, "epoch_loss", epoch.train_loss, number, at)
            self._add(EVAL, "epoch_loss", epoch.eval_loss, number, at)
            self._add(EVAL, f"epoch_{self._metric}", epoch.eval_metric, number, at)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Ends the files."""
        for writer in self._writers.values():
            writer.close()

    def _add(self, run: str, *values: Any) -> None:
        name, value, step, at = values
        self._writers[run].add_scalar(name, value, step, wall_time=at)
