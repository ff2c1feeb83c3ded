"""What runs in a warm process for the tests of tuning."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.project import Project, load_project
from schemas.records import Hyperparameters, Trial, Tuned, Tuning
from tests.chain import Chain, with_module, with_settings
from tests.stored import unfinished

HP = ("def build_model(transform_output)", "def build_model(transform_output, hp)")
RANGES: dict[str, Any] = {"learning_rate": (0.001, 0.02), "batch_size": [16, 64, 100_000]}
TUNER_FN = """
def preprocessing_fn(inputs):
    return inputs


def run_fn(fn_args):
    pass

def tuner_fn(fn_args):
    import collections
    import keras
    import keras_tuner

    def build(hp):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(hp.Choice("rate", [0.0, 0.1])), "mse")
        return model

    x = keras.ops.arange(8, dtype="float32")[:, None] / 8
    tuner = keras_tuner.GridSearch(build, "val_loss", directory=fn_args.working_dir, project_name="of its own", seed=1)
    fit = {"x": x, "y": 3 * x, "validation_data": (x, 3 * x), "epochs": 20, "verbose": 0}
    return collections.namedtuple("Result", "tuner fit_kwargs")(tuner, fit)
"""
# Each trial writes a line; the process ends as a killed one does, once: in the second trial.
KILLED = """
    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            import os
            with open("{log}", "a+") as log:
                log.write("trial\\n")
                log.seek(0)
                if len(log.readlines()) == 2:
                    log.flush()
                    os._exit(9)

    fit = {{"callbacks": [Watch()], """


def searching(project: Project, trials: int = 3, **changes: Any) -> Project:
    """The project with a model of so many hidden units as `hp` says, and a budget."""
    if "hp.Int" not in project.module_path.read_text():
        project = with_module(project, *HP)
        project = with_module(
            project, "layers.Dense(64,", "layers.Dense(hp.Int('units', 32, 96, 32, default=64),"
        )
    return with_settings(
        project, "tune", **{"trials": trials, "epochs": 2, "best": 2, **RANGES, **changes}
    )


def search(project: Project, chain: Chain, output: Path, tuned: Tuned | None = None) -> Tuning:
    from components.tune_model.step import tune_model

    weights = None if project.uses_run_fn else chain.weights
    return tune_model(
        project, chain.features, weights, chain.validation, tuned, "a person asked for it", output
    )


def search_killed(
    project: Project, other: Project, chain: Chain, output: Path
) -> tuple[Trial, Tuning, list[str]]:
    """Kills a search during its second trial and runs it again, on another machine.

    Gives the trial that was finished, what the second attempt found, and what is left of the
    search.
    """
    child = os.fork()
    if child == 0:
        search(project, chain, output)
        os._exit(0)
    while not (found := list(unfinished(project, "tune_model").values())):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "ended before its first trial"
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (output / "tuning.json").exists()
    first = Trial.model_validate_json(found[0])
    return first, search(other, chain, output), list(unfinished(project, "tune_model"))


def search_again(
    project: Project, chain: Chain, output: Path, best: Hyperparameters, space: str
) -> Tuning:
    """A search where an earlier one of the same space is known.

    A new span drifted, so it is not just used again.
    """
    from components.tune_model.step import tune_model
    from schemas.records import Check, Validation

    validation = Validation.read(chain.validation)
    drift = Check(
        kind="drift", subject="image", verdict="failed", message="it moved", severity="warn"
    )
    spans = [*validation.spans[:-1], validation.spans[-1].model_copy(update={"checks": [drift]})]
    validation.model_copy(update={"spans": spans}).write(output / "validation")
    tuned = Tuned(best=[best], space=space, at="2026-01-01T00:00:00+00:00", run="run-0")
    return tune_model(
        project, chain.features, chain.weights, output / "validation", tuned, "", output
    )


def fail_each(project: Project, chain: Chain, output: Path) -> dict[str, tuple[str, list[str]]]:
    """Case -> what is said, and what is left in the folder of kept trials."""
    plain = with_settings(project, "tune", trials=2)
    hp = searching(project, trials=2, learning_rate=None, batch_size=[])
    cases = {
        "large batches": with_settings(plain, "tune", trials=2, batch_size=[100_000, 200_000]),
        "all diverge": with_settings(hp, "train", learning_rate=1e30),
    }
    found = {case: _message(changed, chain, output / case) for case, changed in cases.items()}
    project.module_path.write_text(project.module_path.read_text().replace(HP[1], HP[0]))
    text = project.module_path.read_text().replace("hp.Int('units', 32, 96, 32, default=64)", "64")
    project.module_path.write_text(text)
    found["nothing to search"] = _message(plain, chain, output / "nothing")
    return found


def fail_some(project: Project, chain: Chain, output: Path) -> Tuning:
    """Searches a model that does not build with some of the values."""
    project = with_module(project, *HP)
    side = "SIDE // hp.Choice('parts', [1, 3])"
    project = with_module(
        project, "layers.Reshape((SIDE, SIDE, 1))", f"layers.Reshape(({side}, SIDE, 1))"
    )
    return search(with_settings(project, "tune", trials=9, epochs=1), chain, output)


def leave_alone(project: Project, chain: Chain, output: Path) -> dict[str, Tuning]:
    """Case -> what is recorded where this step searches nothing itself."""
    from perennial.training.hyperparameters import space_digest

    budget = with_settings(project, "tune", trials=2, learning_rate=(0.001, 0.1))
    best = [
        Hyperparameters(learning_rate=rate, batch_size=16, source="tuner") for rate in (0.05, 0.06)
    ]
    tuned = Tuned(
        best=best, space=space_digest(budget), at="2026-01-01T00:00:00+00:00", run="run-0"
    )
    found = {
        "earlier": search(budget, chain, output / "earlier", tuned),
    }
    project.module_path.write_text(TUNER_FN)
    asked = with_settings(load_project(project.folder), "tune", trials=2)
    found["tuner_fn"] = search(asked, chain, output / "tuner_fn", tuned)
    return found


def search_by_tuner_fn(project: Project, chain: Chain, output: Path) -> Tuning:
    return search(with_settings(project, "tune", trials=2), chain, output)


def _message(project: Project, chain: Chain, output: Path) -> tuple[str, list[str]]:
    try:
        search(project, chain, output)
    except PerennialError as error:
        return f"{type(error).__name__}: {error}", list(unfinished(project, "tune_model"))
    return "no error", []


def explore() -> dict[str, Any]:
    """What is proposed in several spaces, without a model."""
    import keras_tuner as kt

    from components.tune_model.space import LEARNING_RATE, propose, random_draws

    def trials(space: Any, algorithm: Any, count: int, loss: Any) -> list[Trial]:
        found: list[Trial] = []
        while (
            len(found) < count and (values := propose(space, algorithm, found, 17, 4)) is not None
        ):
            found.append(Trial(number=len(found) + 1, values=values, loss=loss(values)))
        return found

    def valley(values: dict[str, Any]) -> float:
        return float((values["x"] - 3) ** 2 + (values["y"] - 7) ** 2)

    plane = kt.HyperParameters()
    plane.Float("x", 0, 10)
    plane.Float("y", 0, 10)
    few = kt.HyperParameters()
    few.Choice("a", [1, 2, 3])
    few.Boolean("b")
    tree = kt.HyperParameters()
    tree.Choice("kind", ["deep", "wide"])
    tree.Int("layers", 1, 9, parent_name="kind", parent_values=["deep"])
    rate = kt.HyperParameters()
    rate.Float(LEARNING_RATE, 1e-5, 1e-1, sampling="log")
    failing = trials(
        plane, "bayesian", 9, lambda values: None if values["x"] > 5 else valley(values)
    )
    bayesian = trials(plane, "bayesian", 11, valley)
    return {
        "bayesian": bayesian,
        "random": trials(plane, "random", 11, valley),
        "again": [propose(plane, "bayesian", bayesian[:tried], 17, 4) for tried in (0, 3, 7)],
        "other seed": propose(plane, "bayesian", [], 18, 4),
        "few": {
            kind: trials(few, kind, 50, lambda values: float(values["a"]))
            for kind in ("random", "bayesian")
        },
        "tree": trials(tree, "bayesian", 7, lambda values: float(values.get("layers", 5))),
        "rates": trials(rate, "random", 20, lambda _: 1.0),
        "failing": failing,
        "all failed": trials(plane, "bayesian", 8, lambda _: None),
        "drawn": [random_draws(plane, count) for count in (None, 60, 9, 1)],
    }
