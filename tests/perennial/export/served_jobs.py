"""A SavedModel of one sum, saved, loaded and called; runs in processes of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError


def save_sum(folder: Path, signatures: tuple[str, ...]) -> None:
    """A model of the feature `number`: the value is its double, the label three times as much."""
    import tensorflow as tf

    from perennial.export.contract import write_contract
    from schemas.records import ModelContract, ServedFeature, ServedTask

    examples = tf.TensorSpec([None], tf.string, name="examples")
    numbers = tf.TensorSpec([None], tf.float32, name="number")

    def parse(records: Any) -> Any:
        return tf.io.parse_example(records, {"number": tf.io.FixedLenFeature([], tf.float32)})[
            "number"
        ]

    functions = {
        "serving_default": tf.function(lambda number: {"value": 2 * number}).get_concrete_function(
            numbers
        ),
        "serve_examples": tf.function(
            lambda examples: {"value": 2 * parse(examples)}
        ).get_concrete_function(examples),
        "label_examples": tf.function(
            lambda examples: {"total": 3 * parse(examples)[:, None]}
        ).get_concrete_function(examples),
    }
    tf.saved_model.save(
        tf.Module(), str(folder), signatures={name: functions[name] for name in signatures}
    )
    features = [ServedFeature(name="number", dtype="float32", shape=[])]
    write_contract(
        ModelContract(features=features, tasks=[ServedTask(name="total", kind="regression")]),
        folder,
    )


def answers(folder: Path) -> dict[str, Any]:
    """What the model gives for 2,500 examples, which are more than two batches."""
    import numpy as np

    from perennial.data.examples import to_example
    from perennial.export.served_model import ServedModel
    from perennial.storage.digests import digest_folder

    save_sum(folder / "model", ("serving_default", "serve_examples", "label_examples"))
    model = ServedModel.load(folder / "model", digest_folder(folder / "model"))
    records = [to_example({"number": float(n)}).SerializeToString() for n in range(2500)]
    columns = {"number": np.arange(2500, dtype=np.float32)}
    return {
        "examples": model.predict_examples(records),
        "columns": model.predict_columns(columns),
        "labels": model.label_examples(records),
        "latent": model.latent_columns(columns),
        "halves": model.halves,
        "outputs": model.outputs,
        "tasks": model.tasks,
    }


def messages(folder: Path) -> dict[str, str]:
    """Case -> the error of a model that cannot be loaded or called."""
    from perennial.data.examples import to_example
    from perennial.export.served_model import ServedModel

    good = folder / "good"
    save_sum(good, ("serving_default", "serve_examples"))
    copies = {case: folder / case for case in ("pickle", "no contract", "damaged")}
    for copy in copies.values():
        shutil.copytree(good, copy)
    (copies["pickle"] / "notes.pkl").write_bytes(b"")
    (copies["no contract"] / "assets.extra" / "contract.json").unlink()
    (copies["damaged"] / "saved_model.pb").write_bytes(b"damaged")
    records = [to_example({"other": 1.0}).SerializeToString()]
    loads = {
        case: lambda copy=copy: ServedModel.load(copy, name="version 3")
        for case, copy in copies.items()
    }
    model = ServedModel.load(good, name="version 3")
    calls: dict[str, Callable[[], Any]] = {
        "digest": lambda: ServedModel.load(good, "0" * 64),
        "no signature": lambda: model.label_examples(records),
        "example": lambda: model.predict_examples(records),
    }
    return {case: _message(call) for case, call in (loads | calls).items()}


def _message(call: Callable[[], Any]) -> str:
    try:
        call()
    except PerennialError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def called_by_name(names: list[str]) -> dict[str, float]:
    """What a saved model has read of each feature, when each was given its own number."""
    import tempfile

    import numpy as np
    import tensorflow as tf
    from tensorflow_metadata.proto.v0 import schema_pb2

    from perennial.export.contract import served_features, write_contract
    from perennial.export.saved_model import serving_signatures
    from perennial.export.served_model import ServedModel
    from schemas.records import ModelContract, ServedTask

    schema = schema_pb2.Schema()
    for name in names:
        feature = schema.feature.add(name=name, type=schema_pb2.FLOAT)
        feature.shape.SetInParent()
        feature.presence.min_fraction = 1

    def predict(raw: Any) -> Any:
        return {"value": tf.stack([raw[name] for name in names], axis=1)}

    with tempfile.TemporaryDirectory() as folder:
        signatures = serving_signatures(predict, schema)
        tf.saved_model.save(tf.Module(), folder, signatures=signatures)
        task = ServedTask(name="total", kind="regression")
        contract = ModelContract(features=served_features(schema), tasks=[task])
        write_contract(contract, Path(folder))
        model = ServedModel.load(Path(folder))
        columns = {name: np.float32([number]) for number, name in enumerate(names)}
        (values,) = model.serve(columns)["value"].numpy().tolist()
    return dict(zip(names, values, strict=True))
