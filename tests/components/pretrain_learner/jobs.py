"""What runs in a warm process for the tests of `pretrain_learner`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.project import Project
from schemas.records import Pretraining
from tests.chain import with_settings
from tests.perennial.training.jobs import split_cpu


@dataclass(frozen=True)
class Pretrained:
    """What a pretraining left, and what a fresh model of the user's takes of it."""

    record: Pretraining
    paths: set[str]
    loaded: set[str]
    left: dict[str, str]
    weights: dict[str, Any]
    files: set[str]


def pretrain(project: Project, features: Path, output: Path, **settings: Any) -> Pretrained:
    """Pretrains, and loads the weights into a fresh model."""
    from components.pretrain_learner.step import pretrain_learner
    from perennial.training.artifacts import WEIGHTS_FILE
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.transformed_features import TransformedFeatures
    from perennial.training.weights import assign_weights, load_weights, weights_of

    project = with_settings(project, "pretext", **settings)
    record = pretrain_learner(project, features, output)
    weights = load_weights(output / WEIGHTS_FILE)
    model = ModelBuilder(project, TransformedFeatures(features, project.tasks)).build()
    fitted = assign_weights(model, weights)
    assert all((weights_of(model)[path] == weights[path]).all() for path in fitted.assigned)
    files = {path.name for path in output.iterdir()}
    return Pretrained(record, set(weights), set(fitted.assigned), dict(fitted.left), weights, files)


def pretrain_digits(project: Project, features: Path, folder: Path) -> dict[str, Any]:
    """Both pretexts of images, one of them twice, and the weight draw that goes on from it."""
    from components.stabilise_weights.step import stabilise_weights

    found: dict[str, Any] = {
        "rotation": pretrain(project, features, folder / "rotation", task="rotation", epochs=6),
        "again": pretrain(project, features, folder / "again", task="rotation", epochs=6),
        "masked_image": pretrain(
            project, features, folder / "masked", task="masked_image", epochs=4
        ),
    }
    found["stabilised"] = stabilise_weights(
        project, features, folder / "rotation", None, folder / "draws"
    )
    return found


def pretrain_clipped(project: Project, features: Path, output: Path, replicas: int) -> Pretraining:
    """Pretrains one epoch on this many replicas, with every gradient clipped."""
    from components.pretrain_learner.step import pretrain_learner
    from perennial.training import training_step

    training_step.CLIP_NORM = 0.05
    if replicas > 1:
        split_cpu(replicas)
        project = with_settings(project, "train", strategy="mirrored")
    return pretrain_learner(
        with_settings(project, "pretext", task="rotation", epochs=1), features, output
    )


def read_unlabelled(project: Project, features: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What is learnt from of the unlabelled files, and what is told of them."""
    import tempfile

    import tensorflow as tf

    from components.pretrain_learner.transformed_rows import transform_rows
    from components.pretrain_learner.unlabelled_rows import UnlabelledRows
    from perennial.training.transformed_features import TransformedFeatures

    rows, found = UnlabelledRows(project), TransformedFeatures(features, project.tasks)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "unlabelled.gz"
        count = transform_rows(project, found, rows, ["pixels"], file)
        written = (
            tf.data.TFRecordDataset(str(file), compression_type="GZIP").as_numpy_iterator()
            if count
            else []
        )
        records = list(written)
    assert len(records) == count
    examples = [tf.train.Example.FromString(record).features.feature for record in records]
    return [
        {name: list(held[name].float_list.value) for name in held} for held in examples
    ], rows.notes


def ask_everything() -> dict[str, Any]:
    """What each pretext shows and asks of made-up examples, as arrays."""
    import numpy as np
    import tensorflow as tf

    from components.pretrain_learner.image_pretexts import ImageShape, MaskedImage, Rotation
    from components.pretrain_learner.pool import Spread
    from components.pretrain_learner.table_pretext import MaskedFeatures, column_of
    from components.pretrain_learner.word_pretext import MaskedWords

    seed, count = tf.constant([3, 5], tf.int64), 40
    images = np.arange(count * 5 * 8 * 8 * 3, dtype="float32").reshape(-1, 8, 8, 3)
    words = np.where(
        np.arange(20) < np.arange(count)[:, np.newaxis] % 21,
        1 + np.arange(count * 20).reshape(-1, 20),
        0,
    )
    table = {
        "fare": np.arange(count, dtype="float32") * 2,
        "hour": np.arange(count)[:, np.newaxis] % 24,
    }
    columns = [
        column_of("fare", 1, False, Spread(39.0, 23.0, 0.0, 78.0)),
        column_of("hour", 1, True, Spread(11.0, 7.0, 0.0, 23.0)),
    ]
    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "rotation": (Rotation("x", ImageShape(8, 8, 3)), {"x": images}),
        "masked_image": (MaskedImage("x", ImageShape(8, 8, 3), 0.25, -1.0, 2.0), {"x": images}),
        "masked_words": (MaskedWords("x", 20, 500, 0.3), {"x": words}),
        "masked_features": (MaskedFeatures(tuple(columns), 0.5), table),
    }
    found = {}
    for name, (pretext, given) in cases.items():
        seen, asked = pretext.ask({key: tf.constant(value) for key, value in given.items()}, seed)
        again, _ = pretext.ask({key: tf.constant(value) for key, value in given.items()}, seed)
        assert all((seen[key].numpy() == again[key].numpy()).all() for key in given)
        plain = [{key: value.numpy() for key, value in part.items()} for part in (seen, asked)]
        found[name] = (given, *plain)
    return found


def large_image() -> tuple[Any, Any]:
    """How an image of 70 x 90 pixels is masked, and what is asked of it."""
    import tensorflow as tf

    from components.pretrain_learner.image_pretexts import ImageShape, MaskedImage

    pretext = MaskedImage("x", ImageShape(70, 90), 0.5, 0.0, 1.0)
    seen, asked = pretext.ask(
        {"x": tf.ones([3, 70, 90, 1], tf.int64)}, tf.constant([1, 2], tf.int64)
    )
    return seen["x"].numpy(), {name: values.numpy() for name, values in asked.items()}


def pretrain_taxi(
    project: Project, rows: list[dict[str, Any]], unlabelled: list[dict[str, Any]], folder: Path
) -> Any:
    """Real trips through analysis and transformation, then both pretexts that fit them."""
    from components.analyse_features.step import analyse_features
    from components.transform_features.step import transform_features
    from tests.components.analyse_features.windows import write_span

    write_span(folder / "window", project, "trips", rows)
    analyse_features(project, folder / "window", folder / "graph")
    transform_features(project, folder / "window", folder / "graph", folder / "features")
    (project.folder / "new").mkdir()
    lines = "".join(f"{json.dumps(row)}\n" for row in unlabelled)
    (project.folder / "new" / "trips.jsonl").write_text(lines)
    found = {
        task: pretrain(
            project, folder / "features", folder / task, task=task, epochs=epochs, share=0.25
        )
        for task, epochs in (("masked_features", 6), ("masked_words", 6))
    }
    return found, _chances(folder / "features", project)


def _chances(folder: Path, project: Project) -> dict[str, float]:
    """The loss of who knows how often each value occurs, and nothing of the example."""
    import numpy as np

    from perennial.training.transformed_features import TransformedFeatures

    features, _ = TransformedFeatures(folder, project.tasks).split("train")
    words = features["company_words"].numpy()
    whole, width = 0.0, 0
    for tensor in features.values():
        values = tensor.numpy().reshape(len(words), -1)
        whole += values.shape[1] * (1.0 if values.dtype == np.float32 else _entropy(values))
        width += values.shape[1]
    return {"masked_features": whole / width, "masked_words": _entropy(words[words > 0])}


def _entropy(values: Any) -> float:
    import numpy as np

    shares = np.unique(values, return_counts=True)[1] / values.size
    return float(-(shares * np.log(shares)).sum())
