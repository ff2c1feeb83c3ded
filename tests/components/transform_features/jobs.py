"""What runs in a warm process for the tests of `transform_features`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.project import Project
from schemas.records import NotFinite
from tests.components.analyse_features.windows import with_body
from tests.forked import import_wrapper
from tests.stored import FileArtifact, publish, stage


def build_and_transform(project: Project, folder: Path, *spans: int) -> tuple[int, tuple[str, ...]]:
    from tests.components.analyse_features.windows import write_rides

    write_rides(folder / "window", project, *spans)
    return transform(project, folder / "window", folder)


def transform(project: Project, window: Path, folder: Path) -> tuple[int, tuple[str, ...]]:
    """Analyses and transforms.

    Gives how many examples, and which features, serving computes as well.
    """
    from components.analyse_features.step import analyse_features
    from components.transform_features.step import transform_features

    analyse_features(project, window, folder / "graph")
    found = transform_features(project, window, folder / "graph", folder / "features")
    return found.examples, found.features


def messages(project: Project, bodies: list[str], window: Path, folder: Path) -> list[str]:
    """The message that each body of `preprocessing_fn` gives."""
    found = []
    for number, body in enumerate(bodies):
        try:
            transform(with_body(project, body), window, folder / str(number))
            found.append("no error")
        except PerennialError as error:
            found.append(str(error))
    return found


def check_models(project: Project, window: Path, folder: Path) -> tuple[NotFinite, str, str]:
    """What the transform counted; then what a model that masks NaN meets, and one that does not."""
    import tensorflow as tf

    from perennial.training.finite_values import check_finite, read_not_finite
    from perennial.training.transformed_features import TransformedFeatures

    def mask(features: dict[str, Any]) -> Any:
        return tf.where(tf.math.is_finite(features["fare"]), features["fare"], 0.0)

    transform(project, window, folder)
    features = TransformedFeatures(folder / "features", project.tasks)
    met = []
    for predict in (mask, lambda features: {"prediction": features["fare"]}):
        try:
            check_finite(project, features, predict)
            met.append("no error")
        except PerennialError as error:
            met.append(str(error))
    return read_not_finite(features), met[0], met[1]


def read_features(project: Project, folder: Path) -> dict[str, tuple[dict[str, Any], Any]]:
    """Split -> dense features and labels."""
    import tensorflow as tf

    from perennial.training.transformed_features import TransformedFeatures

    found = {}
    for split in ("train", "eval"):
        features, labels = TransformedFeatures(folder, project.tasks).split(split)
        dense = {
            name: tensor.numpy()
            for name, tensor in features.items()
            if isinstance(tensor, tf.Tensor)
        }
        found[split] = (dense, labels["prediction"].numpy())
    return found


def with_labels(outputs: dict[str, int], returned: bool = False) -> dict[str, int]:
    """What the step's function gives for a label of 3, where the user's function returns `outputs`."""
    from perennial.data.preprocessing import with_labels
    from perennial.tasks import Task

    task = Task("prediction", "multi_class", "label", returned=returned)
    preprocess = with_labels(lambda _: outputs, [task])
    return {name: int(value) for name, value in preprocess({"label": 3}).items()}


def digits(project: Project, window: Path, folder: Path) -> tuple[int, tuple[str, ...]]:
    """A day of the real digits, through analysis and transformation."""
    from tests.chain import landing
    from tests.components.analyse_features.windows import write_span

    write_span(window, project, "day-1", landing(project).digits_of_day(1).to_pylist())
    return transform(project, window, folder)


def taxi(project: Project, data: Path, folder: Path) -> dict[str, Any]:
    """Real taxi trips through all feature functions, and through an exported model of what they give."""
    import keras
    import tensorflow as tf

    from perennial.data.examples import read_records, split_files
    from perennial.export.saved_model import EXAMPLES_SIGNATURE, export_model
    from perennial.export.served_model import ServedModel
    from perennial.training.transformed_features import TransformedFeatures
    from tests.components.analyse_features.windows import write_span
    from tests.components.transform_features.trips import trips

    rows = trips(data)
    write_span(folder / "window", project, "trips", rows)
    compared, names = transform(project, folder / "window", folder)
    transformed = TransformedFeatures(folder / "features", project.tasks)
    features, _ = transformed.split("train")
    inputs = {
        name: keras.Input(tensor.shape[1:], name=name, dtype=tensor.dtype)
        for name, tensor in features.items()
    }
    numbers = [
        keras.layers.Reshape((-1,))(keras.ops.cast(x, "float32"))
        for x in inputs.values()
        if x.dtype != "string"
    ]
    scores = keras.layers.Dense(2, activation="softmax")(keras.layers.Concatenate()(numbers))
    export_model(keras.Model(inputs, scores), project, transformed, folder / "model")
    model = ServedModel.load(folder / "model")

    records = list(read_records(split_files(folder / "window", "eval")))
    complete = tf.constant([record for record in records if _complete(record, project)])
    answers = model.signature(EXAMPLES_SIGNATURE)(complete)
    return {
        "compared": compared,
        "names": names,
        "rows": len(rows),
        "features": {name: tensor.numpy() for name, tensor in features.items()},
        "answers": answers["probabilities"].numpy(),
    }


def _complete(record: bytes, project: Project) -> bool:
    import tensorflow as tf

    from perennial.export.saved_model import serving_specs

    held = tf.train.Example.FromString(record).features.feature
    return all(name in held for name in serving_specs(project.schema))


def wrapped(project: Project, digests: list[str], window: Path, folder: Path) -> list[str]:
    """Runs both wrappers; gives what they left."""
    graph, features = FileArtifact(folder / "graph"), FileArtifact(folder / "features")
    examples = publish(project, window)
    import_wrapper("analyse_features").python_func(str(project.folder), digests[0], examples, graph)
    import_wrapper("transform_features").python_func(
        str(project.folder), digests[1], examples, graph, features
    )
    return sorted(path.name for path in stage(project, features, folder / "staged").iterdir())
