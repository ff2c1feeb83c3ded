"""Champions and instances that cannot be compared, and what becomes of them.

Run in processes of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evaluate_model.champion import Comparable
from perennial.project import Project
from perennial.storage.digests import digest_folder
from schemas.records import Champion, Evaluation, FormerChampion, Training
from tests.forked import import_wrapper
from tests.kinds import Kind, copy_kind_project
from tests.stored import publish, stage

Change = Callable[[dict[str, Any]], dict[str, Any]]


def save_changed(source: Path, folder: Path, signature: str, change: Change) -> None:
    """A SavedModel like another, but for what one of its signatures gives."""
    import tensorflow as tf

    module = tf.Module()
    module.inner = tf.saved_model.load(str(source))
    spec = tf.TensorSpec([None], tf.string, name="examples")
    signatures = dict(module.inner.signatures)
    inner = signatures[signature]
    signatures[signature] = tf.function(
        lambda examples: change(inner(examples=examples))
    ).get_concrete_function(spec)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    shutil.copytree(source / "assets.extra", folder / "assets.extra")


def other_labels(given: dict[str, Any]) -> dict[str, Any]:
    """Severe is what was not, and the other way round."""
    return given | {"severe": 1 - given["severe"]}


def not_a_number(given: dict[str, Any]) -> dict[str, Any]:
    """NaN for the first of all examples."""
    import tensorflow as tf

    def spoil(value: Any) -> Any:
        first = tf.reshape(tf.range(tf.shape(value)[0]) == 0, [-1] + [1] * (len(value.shape) - 1))
        return tf.where(first, float("nan"), value) if value.dtype.is_floating else value

    return {name: spoil(value) for name, value in given.items()}


def other_feature(given: dict[str, Any]) -> dict[str, Any]:
    """Needs `thickness`, which the patients never had."""
    import tensorflow as tf

    parsed = tf.io.parse_example(
        tf.zeros([1], tf.string), {"thickness": tf.io.FixedLenFeature([], tf.float32)}
    )
    return {
        name: value + tf.cast(parsed["thickness"][0], value.dtype) for name, value in given.items()
    }


def saved_model(kind: Kind) -> Path:
    """The model of the kind's candidate."""
    return kind.candidate / "saved_model"


def compare_champions(kinds: dict[str, Kind], folder: Path) -> dict[str, Comparable]:
    """Case -> what `predict_champion` makes of a champion of that kind, for the candidate with two tasks."""
    from perennial.registry.versions import Candidate, Registry

    several = kinds["several"]
    sources = {
        "another task": saved_model(kinds["regression"]),
        "fewer tasks": saved_model(kinds["binary"]),
    }
    for case, (signature, change) in {
        "other labels": ("label_examples", other_labels),
        "not a number": ("serve_examples", not_a_number),
        "other feature": ("serve_examples", other_feature),
    }.items():
        sources[case] = folder / case.replace(" ", "-")
        save_changed(saved_model(several), sources[case], signature, change)
    sources["no contract"] = folder / "no-contract"
    shutil.copytree(
        saved_model(several), sources["no contract"], ignore=shutil.ignore_patterns("contract.json")
    )
    project = copy_kind_project(several, folder / "project")
    registry, found = Registry(project), {}
    for case, source in sources.items():
        version = registry.register(Candidate(source, digest_folder(source), {}, {}, {}, {}))
        found[case] = _compare(
            project, several, Champion(version=version.version, digest=version.digest, deployment=1)
        )
    damaged = registry.register(
        Candidate(saved_model(several), digest_folder(saved_model(several)), {}, {}, {}, {})
    )
    stored = Path(damaged.source.removeprefix("file://")) / "saved_model.pb"
    stored.write_bytes(stored.read_bytes()[:-1])
    champion = Champion(version=damaged.version, digest=damaged.digest, deployment=1)
    found["damaged"] = _compare(project, several, champion)
    return found


def hold_against_former(kind: Kind, folder: Path) -> tuple[list[FormerChampion], list[str]]:
    """The champion beside what is the candidate of the kind, and beside one that has no contract."""
    from components.evaluate_model.champion import predict_champion
    from components.evaluate_model.former import compare_former
    from perennial.evaluation.prediction_table import read_examples
    from perennial.export.served_model import ServedModel
    from perennial.registry.versions import Candidate, Registry

    project = copy_kind_project(kind, folder / "project")
    unlike = folder / "unlike"
    shutil.copytree(saved_model(kind), unlike, ignore=shutil.ignore_patterns("contract.json"))
    former = []
    for source in (saved_model(kind), unlike):
        digest = digest_folder(source)
        version = Registry(project).register(Candidate(source, digest, {}, {}, {}, {}))
        former.append(Champion(version=version.version, digest=digest, deployment=1))
    examples = read_examples(kind.window, "id", [])
    labels = ServedModel.load(saved_model(kind)).label_examples(examples.records)
    against = predict_champion(project, kind.champion, examples, labels)
    return compare_former(project, former, against, examples, labels)


def _compare(project: Project, kind: Kind, champion: Champion) -> Comparable:
    from components.evaluate_model.champion import predict_champion
    from perennial.evaluation.prediction_table import read_examples
    from perennial.export.served_model import ServedModel

    examples = read_examples(kind.window, "id", [])
    labels = ServedModel.load(saved_model(kind)).label_examples(examples.records)
    return predict_champion(project, champion, examples, labels)


def spoil_instance(kind: Kind, folder: Path, spoiled: Training) -> dict[str, Path]:
    """Instance -> folder, where one instance gives NaN for an example."""
    folders = {path.name: path for path in kind.models}
    name = spoiled.instance.name
    save_changed(
        folders[name] / "saved_model", folder / name / "saved_model", "serve_examples", not_a_number
    )
    return folders | {name: folder / name}


def predict_spoiled(
    kind: Kind, folder: Path, spoiled: Training, candidate: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Predictions of instances of which one gives NaN, and what was not measured."""
    from components.evaluate_model.predictions import predict_instances
    from perennial.evaluation.prediction_table import read_examples

    saved = {
        name: path / "saved_model" for name, path in spoil_instance(kind, folder, spoiled).items()
    }
    found = predict_instances(
        kind.project.tasks, saved, candidate, read_examples(kind.window, "id", [])
    )
    return found.predictions, found.not_measured


@dataclass
class Shown:
    """What the wrapper writes, and the metadata that it gives Kubeflow's artifacts."""

    evaluation: Evaluation
    folder: Path
    metadata: dict[str, dict[str, Any]]


def run_wrapper(
    project: Project, kind: Kind, folder: Path, validation: Path | None = None
) -> Shown:
    """Runs the Kubeflow wrapper with Kubeflow's own artifacts, as its executor does."""
    from kfp.dsl import (
        Artifact,
        ClassificationMetrics,
        Dataset,
        Metrics,
        Model,
        SlicedClassificationMetrics,
    )

    from schemas.records import Evaluation

    made = {
        "evaluation": Artifact,
        "model": Model,
        "metrics": Metrics,
        "confusion": ClassificationMetrics,
        "sliced": SlicedClassificationMetrics,
    }
    named = folder / "artifacts"
    outputs = {name: type_(name=name, uri=str(named / name)) for name, type_ in made.items()}
    champion = kind.champion.model_dump() if kind.champion else {}
    window = Dataset(name="window", uri=publish(project, kind.window).path)
    models = [Model(name=path.name, uri=publish(project, path).path) for path in kind.models]
    checks = Artifact(uri=publish(project, validation).path) if validation else None
    import_wrapper("evaluate_model").python_func(
        str(project.folder),
        project.digest_of("evaluate_model"),
        champion,
        [],
        window,
        models,
        **outputs,
        validation=checks,
    )
    metadata = {name: dict(artifact.metadata) for name, artifact in outputs.items()}
    stage(project, outputs["evaluation"], folder / "evaluation")
    return Shown(Evaluation.read(folder / "evaluation"), folder, metadata)
