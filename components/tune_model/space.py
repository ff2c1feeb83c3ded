"""The search space, and the next values to try, by KerasTuner's algorithms."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from perennial.errors import ProjectError
from schemas.project import ProjectSettings, TrainSettings
from schemas.records import Hyperparameters, Trial

if TYPE_CHECKING:
    import keras_tuner

Value = int | float | str | bool
Values = dict[str, Value]
Algorithm = Literal["random", "bayesian"]

# Beside what `build_model` asks its `hp` for; the prefix keeps them apart.
LEARNING_RATE = "train.learning_rate"
BATCH_SIZE = "train.batch_size"
# So many draws that were all tried before mean that there is nothing left to try. Source:
# KerasTuner's own limit.
_COLLISIONS = 20
# Seeds of one trial's draws: KerasTuner takes one for each hyperparameter of each draw.
_SEEDS_PER_TRIAL = 100_000
_OBJECTIVE = "eval_loss"


def make_space(
    declared: keras_tuner.HyperParameters, settings: ProjectSettings, examples: int
) -> keras_tuner.HyperParameters:
    """Makes the search space: what the model declares, and the ranges of the settings.

    Args:
        declared: What `build_model` asks its `hp` for, with its defaults.
        settings: `tune.learning_rate` is searched on a logarithmic scale, `tune.batch_size` by
            choice.
        examples: How many the train split has; no batch may be larger.

    Raises:
        ProjectError: There is nothing to search, or every batch size is too large.
    """
    tune, space = settings.tune, declared.copy()
    if tune.learning_rate:
        space.Float(LEARNING_RATE, *tune.learning_rate, sampling="log")
    if tune.batch_size:
        sizes = sorted({size for size in tune.batch_size if size <= examples})
        if not sizes:
            raise ProjectError(
                where="project.yaml: tune.batch_size",
                expected=f"must hold a size of at most {examples}, the train split",
                received=tune.batch_size,
                remedy="Add a smaller one, or land more data.",
            )
        space.Choice(BATCH_SIZE, sizes)
    if not any(_is_free(hp) for hp in space.space):
        raise ProjectError(
            where="project.yaml: tune",
            expected="must have something to search when it has a budget",
            received="no tune.learning_rate, no tune.batch_size, and a build_model that asks "
            "no `hp`",
            remedy="Set one of them, write build_model(transform_output, hp), or remove "
            "tune.trials and tune.minutes.",
        )
    return space


def own_values(space: keras_tuner.HyperParameters, train: TrainSettings) -> Values:
    """Gives what training would use without a search: settings and the model's defaults."""
    chosen = Hyperparameters(learning_rate=train.learning_rate, batch_size=train.batch_size)
    return values_of(chosen, space)


def values_of(chosen: Hyperparameters, space: keras_tuner.HyperParameters) -> Values:
    """Gives hyperparameters as values of a space; what they do not name has its default."""
    given: Values = {
        **chosen.model,
        LEARNING_RATE: chosen.learning_rate,
        BATCH_SIZE: chosen.batch_size,
    }
    active = space.copy()
    active.values = {}
    for hp in space.space:  # a condition stands after what it asks for
        if active.is_active(hp):
            active.values[hp.name] = given.get(hp.name, hp.default)
    return _plain(active.values)


def hyperparameters_of(values: Values, train: TrainSettings) -> Hyperparameters:
    """Gives the values of a space as training reads them.

    What is not searched is as the settings say.
    """
    return Hyperparameters(
        learning_rate=float(values.get(LEARNING_RATE, train.learning_rate)),
        batch_size=int(values.get(BATCH_SIZE, train.batch_size)),
        model={
            name: value for name, value in values.items() if name not in (LEARNING_RATE, BATCH_SIZE)
        },
        source="tuner",
    )


def propose(
    space: keras_tuner.HyperParameters,
    algorithm: Algorithm,
    trials: Sequence[Trial],
    seed: int,
    drawn: int,
) -> Values | None:
    """Proposes the next values, which no trial has tried; None when nothing seems to be left.

    It depends on the arguments alone, so that a search that was killed goes on as one that was not.

    Args:
        space: What is searched.
        algorithm: `random`, or `bayesian`: a Gaussian process over what was found.
        trials: All trials so far.
        seed: Seed of the whole search.
        drawn: How many trials are drawn at random before the Gaussian process is asked.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    tried = [trial.values for trial in trials]
    first = 1 + (seed + len(trials)) * _SEEDS_PER_TRIAL
    for attempt in range(_COLLISIONS):
        # What the Gaussian process says again was tried before: then chance is asked.
        kind: Algorithm = algorithm if attempt == 0 else "random"
        oracle = _make_oracle(space, kind, first + attempt * len(space.space), drawn)
        oracle.trials = {str(trial.number): _as_trial(space, trial, trials) for trial in trials}
        # Its matrices are tiny: many threads only wait for each other, and take five times as long.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")  # of a Gaussian process with few points
            values = oracle.populate_space("next")["values"]
        if values is not None and (plain := _plain(values)) not in tried:
            return plain
    return None


def random_draws(space: keras_tuner.HyperParameters, trials: int | None) -> int:
    """Gives how many trials are drawn at random at first.

    These are KerasTuner's 3 for each hyperparameter, but a third of the trials at the most.
    """
    own = 3 * sum(1 for hp in space.space if _is_free(hp))
    return own if trials is None else max(1, min(own, trials // 3))


def _make_oracle(
    space: keras_tuner.HyperParameters, algorithm: Algorithm, seed: int, drawn: int
) -> Any:
    import keras_tuner as kt

    arguments = {
        "objective": kt.Objective(_OBJECTIVE, "min"),
        "seed": seed,
        "hyperparameters": space.copy(),
    }
    if algorithm == "random":
        return kt.oracles.RandomSearchOracle(**arguments)
    return kt.oracles.BayesianOptimizationOracle(num_initial_points=drawn, **arguments)


def _as_trial(space: keras_tuner.HyperParameters, trial: Trial, trials: Sequence[Trial]) -> Any:
    """Gives a trial as KerasTuner reads it.

    One that failed is as bad as the worst, so that the search leaves its corner.
    """
    import keras_tuner as kt

    tried = space.copy()
    tried.values = {
        hp.name: trial.values[hp.name] for hp in space.space if _holds(hp, trial.values)
    }
    losses = [other.loss for other in trials if other.loss is not None]
    result = kt.engine.trial.Trial(tried, str(trial.number), "COMPLETED" if losses else "FAILED")
    result.score = max(losses, default=None) if trial.loss is None else trial.loss
    return result


def _holds(hp: Any, values: Values) -> bool:
    """Tells whether a value lies in its range.

    The settings' own need not: then KerasTuner takes the default.
    """
    if hp.name not in values:
        return False
    value = values[hp.name]
    if hasattr(hp, "min_value"):
        return bool(hp.min_value <= value <= hp.max_value)
    return value in getattr(hp, "values", (value,))


def _is_free(hp: Any) -> bool:
    import keras_tuner as kt

    return not isinstance(hp, kt.engine.hyperparameters.Fixed)


def _plain(values: dict[str, Any]) -> Values:
    """Converts NumPy's numbers to Python's."""
    return {
        name: value.item() if hasattr(value, "item") else value for name, value in values.items()
    }
