"""What TFX's own executors fill FnArgs with, beside what is filled here; runs in a warm process."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from perennial.project import Project
from schemas.records import Hyperparameters


def compared_with_tfx(project: Project, features: Path, folder: Path) -> dict[str, Any]:
    """Every field of FnArgs by ours and by TFX's own executors, for the same artifacts.

    All of them, and few.
    """
    from perennial.tfx_module.run_fn import make_fn_args, make_tuner_args
    from perennial.training.transformed_features import TransformedFeatures

    transformed = TransformedFeatures(features, project.tasks)
    found: dict[str, Any] = {}
    model = {"units": 3, "rate": 0.5, "flat": True}
    for name, given in (("given", True), ("not given", False)):
        changes = {"custom_config": {"depth": 2} if given else {}}
        settings = project.settings.model_copy(
            update={"run_fn": project.settings.run_fn.model_copy(update=changes)}
        )
        chosen = Hyperparameters(learning_rate=0.1, batch_size=32, model=model if given else {})
        base = folder / "champion" / "Format-Serving" if given else None
        ours = make_fn_args(
            replace(project, settings=settings),
            transformed,
            chosen,
            base,
            folder / name,
            folder / "logs",
        )
        found[name] = (_fields(ours), _fields(_by_trainer(project, features, folder, ours, given)))
    found["num_examples"] = ours.num_examples
    ours = make_tuner_args(project, transformed, folder / "tuner")
    inputs, _, properties = _artifacts(project, features, folder, ours, given=False)
    from tfx.components.trainer import fn_args_utils

    theirs = fn_args_utils.get_common_fn_args(inputs, properties, str(folder / "tuner"))
    found["tuner"] = (_fields(ours), _fields(theirs))
    found["data"] = _first_batches(ours), _first_batches(theirs)
    return found


def _by_trainer(project: Project, features: Path, folder: Path, ours: Any, given: bool) -> Any:
    from tfx.components.trainer.executor import GenericExecutor

    inputs, outputs, properties = _artifacts(project, features, folder, ours, given)
    return GenericExecutor()._GetFnArgs(inputs, outputs, properties)


def _artifacts(
    project: Project, features: Path, folder: Path, ours: Any, given: bool
) -> tuple[Any, Any, Any]:
    """TFX's artifacts for the same folders, and its execution properties."""
    from tfx.types import artifact_utils, standard_artifacts

    def artifact(kind: Any, path: Path | str) -> list[Any]:
        one = kind()
        one.uri = str(path)
        return [one]

    schema = folder / "schema"
    schema.mkdir(exist_ok=True)
    shutil.copy(project.schema_path, schema / "schema.pbtxt")
    (examples,) = artifact(standard_artifacts.Examples, features / "transformed_examples")
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    inputs = {
        "examples": [examples],
        "transform_graph": artifact(standard_artifacts.TransformGraph, ours.transform_graph_path),
        "schema": artifact(standard_artifacts.Schema, schema),
    }
    if given:
        best = folder / "best"
        best.mkdir()
        (best / "best_hyperparameters.txt").write_text(json.dumps(ours.hyperparameters))
        inputs["hyperparameters"] = artifact(standard_artifacts.HyperParameters, best)
        inputs["base_model"] = artifact(standard_artifacts.Model, folder / "champion")
    made = folder / ("given" if given else "not given") / "model"
    outputs = {
        "model": artifact(standard_artifacts.Model, made),
        "model_run": artifact(standard_artifacts.ModelRun, folder / "logs"),
    }
    properties = {
        "train_args": json.dumps({"num_steps": 60}),
        "eval_args": json.dumps({"num_steps": 3}),
        "custom_config": json.dumps({"depth": 2} if given else None),
    }
    return inputs, outputs, properties


def _fields(fn_args: Any) -> dict[str, Any]:
    """The declared fields; the parts of the data accessor by whether they are there."""
    import attr

    found = {field.name: getattr(fn_args, field.name) for field in attr.fields(type(fn_args))}
    found["data_accessor"] = [part is not None for part in fn_args.data_accessor]
    return found


def _first_batches(fn_args: Any) -> tuple[dict[str, list[Any]], list[Any]]:
    """The first batch as tf.data gives it, and as Arrow."""
    import tensorflow_transform as tft
    from tfx_bsl.tfxio.dataset_options import RecordBatchesOptions, TensorFlowDatasetOptions

    schema = tft.TFTransformOutput(fn_args.transform_graph_path).transformed_metadata.schema
    options = TensorFlowDatasetOptions(batch_size=20, shuffle=False, label_key="tips_xf")
    accessor = fn_args.data_accessor
    batch, labels = next(iter(accessor.tf_dataset_factory(fn_args.eval_files, options, schema)))
    table = next(
        iter(
            accessor.record_batch_factory(
                fn_args.eval_files, RecordBatchesOptions(20, shuffle=False), schema
            )
        )
    )
    dense = {name: values.numpy().tolist() for name, values in batch.items()}
    return {**dense, "label": labels.numpy().tolist()}, table.to_pydict()
