"""What submits pipelines to workers elsewhere, in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.project import Project
from schemas.records import LeftInRoot, Span


def use_elsewhere(
    project: Project, span: Span, made: dict[str, Path], folder: Path, account: dict[str, str]
) -> dict[str, list[str]]:
    """Ingests and measures a span, and transforms a window, by workers that reach the root alone.

    Gives the files of examples that this process had in hand: by step, before they were staged.
    """
    os.environ.update(account)
    in_hand = {}
    with _step(project, "ingest_examples") as step:
        from components.ingest_examples.step import ingest_examples

        assert not step.is_kept(span.model_dump(mode="json"))
        output = step.output("examples")
        ingest_examples(step.project, span, output)
        in_hand["ingest_examples"] = _examples(output)
        step.publish()
        step.results.stage(step.reference("examples"), folder / "examples")
        examples = step.reference("examples")
    with _step(project, "compute_statistics") as step:
        from components.compute_statistics.step import measure_span

        assert not step.is_kept(examples)
        staged = step.examples(examples)
        in_hand["compute_statistics"] = _examples(staged)
        measure_span(step.project, staged, folder / "statistics")
    window, graph = (_publish(project, made[name]) for name in ("window", "graph"))
    with _step(project, "analyse_features") as step:
        from components.analyse_features.step import analyse_features

        assert not step.is_kept(window)
        staged = step.examples(window)
        in_hand["analyse_features"] = _examples(staged)
        analyse_features(step.project, staged, folder / "graph")
    with _step(project, "transform_features") as step:
        from components.transform_features.step import transform_features

        assert not step.is_kept(window, graph)
        staged, output = step.examples(window), step.output("features")
        transform_features(step.project, staged, step.input(graph), output)
        in_hand["transform_features"] = [*_examples(staged), *_examples(output)]
        assert list(output.rglob(LeftInRoot.FILE))
        step.publish()
        step.results.stage(step.reference("features"), folder / "features")
        left = [each.name for each in step.results.objects.list("unfinished")]
    return {**in_hand, "unfinished": left}


def fail_elsewhere(project: Project, window: Path, folder: Path, account: dict[str, str]) -> str:
    """Gives the message of a transformation whose function fails on what the workers read."""
    os.environ.update(account)
    from components.analyse_features.step import analyse_features
    from components.transform_features.step import transform_features

    published = _publish(project, window)
    with _step(project, "analyse_features") as step:
        assert not step.is_kept(published)
        analyse_features(step.project, step.examples(published), folder / "broken")
    graph = _publish(project, folder / "broken")
    with _step(project, "transform_features") as step:
        assert not step.is_kept(published, graph)
        staged, output = step.examples(published), step.output("features")
        try:
            transform_features(step.project, staged, step.input(graph), output)
        except PerennialError as error:
            return str(error)
    return "no error"


def _step(project: Project, name: str) -> Any:
    from components.stored_step import StoredStep

    return StoredStep(project, name, project.digest_of(name))


def _publish(project: Project, folder: Path) -> Any:
    from perennial.results.store import reference_to
    from tests.stored import results_of

    result = results_of(project).publish("test", folder.name, {"made": folder}, {})
    return reference_to(result, "made")


def _examples(folder: Path) -> list[str]:
    from perennial.data.examples import split_files

    return [Path(file).name for file in split_files(folder)]


def records_of(folder: Path) -> dict[str, list[bytes]]:
    """The examples of each split in the order of their bytes, features in that of their names."""
    import tensorflow as tf

    from perennial.data.examples import read_records, split_files

    splits = sorted({file.parent.name for file in folder.glob("**/Split-*/data_tfrecord*")})
    names = [split.removeprefix("Split-") for split in splits]
    examples = {
        name: map(tf.train.Example.FromString, read_records(split_files(folder, name)))
        for name in names
    }
    return {
        name: sorted(example.SerializeToString(deterministic=True) for example in some)
        for name, some in examples.items()
    }
