"""Trains one instance in this process: alone, or as one worker of a cluster."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.train_model.cluster import Agreement
from components.train_model.epochs import Fitting
from components.train_model.initial_weights import Start, set_starting_weights
from components.train_model.job import Job
from components.train_model.logs import TrainingLogs
from components.train_model.progress import Progress, resume
from perennial.errors import ProjectError, TrainingError
from perennial.export.saved_model import export_model
from perennial.export.temperature_scaling import eval_answers, fit_temperatures
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import LOGS, SAVED_MODEL
from perennial.training.batches import BatchPlan, TrainingBatches
from perennial.training.hyperparameters import balance_classes
from perennial.training.model_builder import ModelBuilder
from perennial.training.strategy import choose_strategy
from perennial.training.trainer import Trainer, learning_rate_of
from perennial.training.transformed_features import TransformedFeatures
from perennial.training.weights import Weights, assign_weights
from perennial.user_module import function_line
from schemas.records import Training

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_DIGEST_BYTES = 32


def train_here(job: Job) -> Training:
    """Trains, exports the best epoch's weights and publishes the record.

    The cluster's other workers publish nothing.

    Raises:
        ProjectError: The model does not build or fit, a device is not there, or classes of values
            are to be balanced.
        TrainingError: The loss is not finite, or a checkpoint is of another architecture.
        IntegrityError: The champion that it starts from is not the one that was evaluated.
    """
    # Before anything else: TensorFlow joins a cluster only as the first thing that it does.
    strategy = choose_strategy(job.settings.train)
    return _Run(job, strategy).run()


@dataclass
class _Run:
    """One training under a strategy."""

    job: Job
    strategy: tf.distribute.Strategy
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.project = self.job.project
        self.agreement = Agreement(self.strategy)
        self.features = TransformedFeatures(self.job.features, self.project.tasks)
        self.builder = ModelBuilder(self.project, self.features)
        self.checkpoints = self.job.open_checkpoints()

    def run(self) -> Training:
        trainer = self._make_trainer()
        start = self._start(trainer)
        resumption = resume(trainer, self.checkpoints)
        self.notes += [*start.notes, *resumption.notes]
        logs = (
            TrainingLogs(self.job.output / LOGS, self.project.tasks[0].metric)
            if self.agreement.is_chief
            else None
        )
        try:
            progress, best = self._fitting(trainer, start, logs).fit(resumption)
        except TrainingError as error:
            raise _placed(error, self.job) from error
        finally:
            if logs is not None:
                logs.close()
        record = self._record(
            trainer.model, progress, resumption.resumed_from, self._export(best), start
        )
        if self.agreement.is_chief:
            record.write(self.job.output)
        return record

    def _build(self) -> keras.Model:
        import keras

        # The instance's own draw, which patching adds to the champion; dropout is seeded by it,
        # too.
        keras.utils.set_random_seed(self.job.instance.seed)
        return self.builder.build(self.job.hyperparameters.model)

    def _make_trainer(self) -> Trainer:
        train, tasks = self.job.settings.train, self.project.tasks
        weights = balance_classes(self.features, train)

        def build() -> keras.Model:
            model = self._build()
            self.builder.check(model)
            return model

        return Trainer(build, tasks, self.strategy, train=train, class_weights=weights)

    def _start(self, trainer: Trainer) -> Start:
        job = self.job
        return set_starting_weights(
            trainer.model, job.instance, job.start_weights, job.champion, self.project
        )

    def _fitting(self, trainer: Trainer, start: Start, logs: TrainingLogs | None) -> Fitting:
        train = self.job.settings.train
        plan = BatchPlan(
            self.job.hyperparameters.batch_size,
            self.job.instance.seed,
            "resample" if train.balance == "resample" else "none",
            train.cache_mb,
        )
        return Fitting(
            trainer=trainer,
            batches=TrainingBatches(self.features, plan),
            train=train,
            rate=learning_rate_of(train, self.job.hyperparameters),
            warm_up_steps=start.warm_up_steps,
            agreement=self.agreement,
            checkpoints=self.checkpoints if self.agreement.is_chief else None,
            logs=logs,
        )

    def _export(self, best: Weights) -> str:
        """Writes the SavedModel.

        Gives its digest, on every worker once the chief has written it.
        """
        digest = bytes(_DIGEST_BYTES)
        if self.agreement.is_chief:
            folder = self.job.output / SAVED_MODEL
            shutil.rmtree(folder, ignore_errors=True)  # of a killed one
            # Built again outside the strategy: what serves knows nothing of the devices that
            # trained it.
            model = self._build()
            assigned = assign_weights(model, best)
            if not assigned.whole:
                raise ProjectError(
                    where=function_line(self.project.module().build_model),
                    expected="must build the same model each time",
                    received=next(iter(assigned.left.items())),
                    remedy="Name its layers.",
                )
            calibrated = fit_temperatures(self.project, eval_answers(model, self.features))
            self.notes += calibrated.notes
            export_model(model, self.project, self.features, folder, calibrated.temperatures)
            digest = bytes.fromhex(digest_folder(folder))
        return bytes(int(value) for value in self.agreement.with_chief(list(digest))).hex()

    def _record(
        self,
        model: keras.Model,
        progress: Progress,
        resumed_from: int | None,
        digest: str,
        start: Start,
    ) -> Training:
        return Training(
            instance=self.job.instance,
            strategy=self.job.settings.train.strategy,
            replicas=self.strategy.num_replicas_in_sync,
            workers=self.agreement.workers,
            parameters=sum(
                int(variable.value.shape.num_elements()) for variable in model.trainable_variables
            ),
            train_examples=self.features.count("train"),
            eval_examples=self.features.count("eval"),
            hyperparameters=self.job.hyperparameters,
            metric=self.project.tasks[0].metric,
            epochs=list(progress.epochs),
            best_epoch=progress.best_epoch,
            resumed_from=resumed_from,
            weights_from=start.weights_from,
            seconds=progress.seconds,
            notes=self.notes,
            digest=digest,
        )


def _placed(error: TrainingError, job: Job) -> TrainingError:
    """Gives the error with the user's lines that decide it."""
    module = job.project.module()
    tuned = job.hyperparameters.source == "tuner" and job.settings.tune.learning_rate is not None
    setting = "tune.learning_rate" if tuned else "train.learning_rate"
    where = f"{error.where} of {job.instance.name} ({function_line(module.build_model)})"
    remedy = (
        f"Check the features' range in {function_line(module.preprocessing_fn)}, or lower "
        f"{setting}."
    )
    return TrainingError(where, error.expected, error.received, remedy)
