"""What runs in a warm process for the tests of training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.train_model.step import Inputs
from perennial.errors import PerennialError
from perennial.project import Project, load_project
from schemas.records import Champion, Hyperparameters, Instance, Training, Tuning
from tests.chain import Chain, with_settings

COLD = Instance(name="instance-1", seed=17)


def inputs_of(chain: Chain) -> Inputs:
    return Inputs(chain.features, chain.window, chain.weights)


def train(
    project: Project,
    chain: Chain,
    output: Path,
    instance: Instance = COLD,
    champion: Champion | None = None,
) -> Training:
    from components.train_model.step import train_model

    return train_model(project, instance, inputs_of(chain), champion, output)


def message_of(work: Any, *arguments: Any) -> str:
    try:
        work(*arguments)
    except PerennialError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def serve_eval_split(project: Project, saved_model: Path, window: Path) -> dict[str, Any]:
    """What the exported model answers for the raw eval examples, by each signature, and the labels."""
    import numpy as np
    import tensorflow as tf

    from perennial.data.examples import decode_records, read_records, split_files

    loaded = tf.saved_model.load(str(saved_model))
    records = list(read_records(split_files(window, "eval")))
    rows = decode_records(records).to_pylist()
    images = tf.constant([row["image"] for row in rows], tf.float32)
    features = loaded.signatures["serving_default"](image=images)
    examples = loaded.signatures["serve_examples"](examples=tf.constant(records))
    told = loaded.signatures["label_examples"](examples=tf.constant(records))
    return {
        "signatures": {
            name: sorted(s.structured_input_signature[1]) for name, s in loaded.signatures.items()
        },
        "features": {name: value.numpy() for name, value in features.items()},
        "examples": {name: value.numpy() for name, value in examples.items()},
        "told": {name: value.numpy() for name, value in told.items()},
        "labels": np.array([row["label"][0] for row in rows]),
    }


def read_logs(*folders: Path) -> list[dict[str, list[tuple[int, float]]]]:
    """For each folder of logs: `run/tag` -> (step, value), as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = []
    for folder in folders:
        curves = {}
        for run in sorted(path.name for path in folder.iterdir()):
            events = EventAccumulator(str(folder / run), size_guidance={"tensors": 0}).Reload()
            for tag in events.Tags()["tensors"]:
                points = [
                    (event.step, float(make_ndarray(event.tensor_proto)))
                    for event in events.Tensors(tag)
                ]
                curves[f"{run}/{tag}"] = points
        found.append(curves)
    return found


def train_and_die(project: Project, chain: Chain, output: Path, call: int) -> None:
    """Trains, and is killed after some steps of this call of the loop, before they are in a checkpoint."""
    from perennial.training.trainer import Trainer

    whole, calls = Trainer.train, []

    def dying(self: Any, rates: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            whole(self, rates[:1])
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, rates)

    Trainer.train = dying  # type: ignore[method-assign]
    train(project, chain, output)


def go_on(project: Project, chain: Chain, folder: Path) -> dict[str, Any]:
    """Goes on with a killed training in three ways.

    As it is, its newest checkpoint cut, its model changed since.
    """
    from components.train_model.job import make_job
    from perennial.training.hyperparameters import settings_hyperparameters

    projects = {name: _moved(project, folder / name) for name in ("cut", "changed")}
    newest = checkpoints_of(projects["cut"])[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    changed = projects["changed"]
    left = checkpoints_of(changed)[0].parent
    changed.module_path.write_text(changed.module_path.read_text().replace("Dense(64", "Dense(65"))
    hyperparameters = settings_hyperparameters(changed.settings)
    job = make_job(
        changed,
        COLD,
        hyperparameters,
        None,
        chain.features,
        chain.weights,
        folder / "changed-output",
    )
    left.rename(
        job.open_checkpoints().place
    )  # as if only a module that model.py imports had changed
    return {
        "whole": train(project, chain, folder / "whole"),
        "cut": train(projects["cut"], chain, folder / "cut-output"),
        "changed": message_of(train, changed, chain, folder / "changed-output"),
        "left": [checkpoints_of(each) for each in (project, projects["cut"])],
    }


def checkpoints_of(project: Project) -> list[Path]:
    """The checkpoints of all trainings that a project's root holds, the oldest first."""
    return sorted(Path(project.root, "unfinished", "train_model").glob("*/step-*.npz"))


def _moved(project: Project, folder: Path) -> Project:
    """A copy of a project that has the same digest, with its own state."""
    shutil.copytree(project.folder, folder)
    return Project(folder, project.settings)


def train_on_devices(project: Project, chain: Chain, output: Path) -> dict[str, Training]:
    """The same training on one device, and mirrored over two."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return {
        name: train(with_settings(project, "train", strategy=name), chain, output / name)
        for name in ("one_device", "mirrored")
    }


def train_in_cluster(
    project: Project, chain: Chain, output: Path, ports: list[int], index: int
) -> Training:
    """Trains as one worker of a cluster that somebody else started."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    os.environ["TF_CONFIG"] = json.dumps(task)
    return train(project, chain, output)


def train_while_a_worker_dies(project: Project, chain: Chain, output: Path) -> dict[str, Any]:
    """Trains on workers of this machine, of which one is killed when the first checkpoint is there."""
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.02)
            if checkpoints_of(project):
                os.kill(pid := workers()[-1], signal.SIGKILL)
                killed.append(pid)

    threading.Thread(target=kill, daemon=True).start()
    record = train(project, chain, output)
    return {"record": record, "killed": killed, "left": workers()}


def workers() -> list[int]:
    """The worker processes that this process started, in their order."""
    return sorted(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def train_badly(
    project: Project, chain: Chain, bodies: dict[str, str], output: Path
) -> dict[str, str]:
    """Case -> what is said of a model.py whose `build_model` has this body."""
    text, found = project.module_path.read_text(), {}
    for case, body in bodies.items():
        head = text[: text.index("def build_model")]
        project.module_path.write_text(f"{head}def build_model(transform_output):\n{body}")
        found[case] = message_of(train, load_project(project.folder), chain, output / case)
    return found


def train_with_each(
    project: Project, chain: Chain, settings: dict[str, Any], output: Path
) -> dict[str, Any]:
    """Case -> the training with these settings of the section `train`, or what is said of it."""
    from components.train_model.step import train_model

    found: dict[str, Any] = {}
    for case, changes in settings.items():
        changed = with_settings(project, "train", **changes)
        try:
            found[case] = train_model(changed, COLD, inputs_of(chain), None, output / case)
        except PerennialError as error:
            found[case] = f"{type(error).__name__}: {error}"
    return found


def train_from_champion(
    project: Project, chain: Chain, instance: Instance, folder: Path
) -> dict[str, Any]:
    """Case -> a training beside the chain's second instance as the champion, or what is said of it."""
    from perennial.registry.versions import Candidate, Registry
    from perennial.training.artifacts import SAVED_MODEL
    from schemas.records import Training

    digest = Training.read(chain.model("instance-2")).digest
    saved = chain.model("instance-2") / SAVED_MODEL
    version = Registry(project).register(Candidate(saved, digest, {}, {}, {}, {"run": "run-0"}))
    champion = Champion(version=version.version, digest=digest, deployment=1)
    other = Project(folder / "other", project.settings)
    shutil.copytree(project.folder, other.folder)
    other.module_path.write_text(other.module_path.read_text().replace("Dense(64", "Dense(48"))
    cases = {
        "champion": (project, champion),
        "none": (project, None),
        "other shape": (other, champion),
        "wrong digest": (project, champion.model_copy(update={"digest": "0" * 64})),
        "not there": (project, champion.model_copy(update={"version": "99"})),
    }
    found: dict[str, Any] = {}
    for case, (each, serves) in cases.items():
        try:
            found[case] = train(each, chain, folder / case, instance, serves)
        except PerennialError as error:
            found[case] = f"{type(error).__name__}: {error}"
    return found


def train_each(
    project: Project,
    chain: Chain,
    best: list[Hyperparameters],
    instances: list[Instance],
    folder: Path,
) -> dict[str, Training]:
    """The training of each instance by its name, with these best hyperparameters of the tuner."""
    from components.train_model.step import train_model

    Tuning(outcome="searched", why="a test", best=best, space="").write(folder / "tuning")
    inputs = replace(inputs_of(chain), hyperparameters=folder / "tuning")
    return {
        each.name: train_model(project, each, inputs, None, folder / each.name)
        for each in instances
    }


def train_by_run_fn(
    project: Project, broken: Project, chain: Chain, cold: Instance, patched: Instance, folder: Path
) -> dict[str, Any]:
    """Case -> a training by the module's `run_fn`, or what is said of it.

    The cold one becomes the champion.
    """
    from perennial.registry.versions import Candidate, Registry
    from perennial.training.artifacts import SAVED_MODEL

    first = train(project, chain, folder / "cold", cold)
    saved = folder / "cold" / SAVED_MODEL
    version = Registry(project).register(
        Candidate(saved, first.digest, {}, {}, {}, {"run": "run-0"})
    )
    champion = Champion(version=version.version, digest=first.digest, deployment=1)
    return {
        "cold": first,
        "patched": train(project, chain, folder / "patched", patched, champion),
        "no champion": train(project, chain, folder / "no champion", patched),
        "diverged": message_of(train, broken, chain, folder / "diverged"),
    }


def patch_small_model() -> dict[str, Any]:
    """Weights of a small model before and after it was patched, and those of the champion."""
    import keras
    import numpy as np

    from components.train_model.initial_weights import patch
    from perennial.training.weights import weights_of
    from schemas.project import PatchSettings

    keras.utils.set_random_seed(3)
    x = keras.Input((4,))
    frozen = keras.layers.Dense(3, name="frozen", trainable=False)
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(
        x, keras.layers.Dense(2, name="head")(keras.layers.Dropout(0.5)(norm(frozen(x))))
    )
    fresh = weights_of(model)
    random = np.random.default_rng(5)
    champion = {
        name: random.normal(size=array.shape).astype("float32") for name, array in fresh.items()
    }
    patch(model, champion, PatchSettings(shrink=0.5, perturb=0.1))
    return {"fresh": fresh, "champion": champion, "patched": weights_of(model)}
