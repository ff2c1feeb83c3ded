"""TFX's `run_fn(fn_args)` and `tuner_fn(fn_args)` of a user's module, called as by TFX 1.21.

Source: tfx/components/trainer/executor.py (GenericExecutor) and tfx/components/tuner/executor.py.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import PerennialError, ProjectError, TrainingError, describe_error
from perennial.project import Project
from perennial.storage.atomic import link_tree
from perennial.tfx_module.wrapped_model import WrappedModel, wrap_model
from perennial.training.transformed_features import (
    TRANSFORM_GRAPH,
    TRANSFORMED_EXAMPLES,
    TransformedFeatures,
)
from perennial.user_module import function_line, user_line
from schemas.records import Hyperparameters, Instance

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow as tf
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tfx.components.trainer.fn_args_utils import DataAccessor, FnArgs
    from tfx_bsl.tfxio.tfxio import TFXIO

Value = int | float | str | bool

_GRAPH_WITH_SCHEMA = "transform_output"
_TELEMETRY = ["perennial", "run_fn"]


def train_by_run_fn(
    project: Project,
    instance: Instance,
    features: TransformedFeatures,
    hyperparameters: Hyperparameters,
    base_model: Path | None,
    work: Path,
    logs: Path,
    output: Path,
    held_out: Sequence[str] = (),
) -> WrappedModel:
    """Runs the user's `run_fn`, and publishes what it saved as a served model.

    Args:
        project: Whose module has the `run_fn`.
        instance: Its seed is set before `run_fn` is called.
        features: What `transform_features` left.
        hyperparameters: Those of the tuner are given to `run_fn` as TFX gives them.
        base_model: What `run_fn` saved when the champion was trained (`user_model` finds it), or
            None.
        work: Folder for what is not kept.
        logs: Folder for TensorBoard, `fn_args.model_run_dir`.
        output: Folder of the SavedModel, which this makes.
        held_out: Gzipped TFRecords of the raw examples of the eval split, which the model is
            calibrated on.

    Raises:
        ProjectError: `run_fn` raises, saves nothing, or saves a model that cannot be served.
        TrainingError: What it saved gives NaN.
    """
    import keras

    run_fn = _function(project, "run_fn")
    fn_args = make_fn_args(project, features, hyperparameters, base_model, work, logs)
    saved = Path(fn_args.serving_model_dir)
    shutil.rmtree(saved, ignore_errors=True)  # of an attempt that was killed
    for folder in (work, logs):
        folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(instance.seed)
    with _naming_line(project, run_fn):
        run_fn(fn_args)
    if not (saved / "saved_model.pb").is_file():
        received = (
            ", ".join(sorted(path.name for path in saved.iterdir()))
            if saved.is_dir()
            else "nothing there"
        )
        remedy = (
            "End it with tf.saved_model.save(model, fn_args.serving_model_dir, signatures=...)."
        )
        where, expected = (
            function_line(run_fn),
            "must save a SavedModel at fn_args.serving_model_dir",
        )
        raise ProjectError(where, expected, received, remedy)
    return wrap_model(project, features, function_line(run_fn), saved, output, held_out)


def call_tuner_fn(
    project: Project,
    features: TransformedFeatures,
    work: Path,
    after_trial: Callable[[], None] = lambda: None,
) -> dict[str, Value] | None:
    """Runs the search of the user's `tuner_fn`.

    Gives the best hyperparameters by name, None without a `tuner_fn`.

    Args:
        project: Whose module may have a `tuner_fn`.
        features: What `transform_features` left.
        work: Folder for the tuner, `fn_args.working_dir`.
        after_trial: Is called when a trial of a tuner that has `on_trial_end`, as KerasTuner's
            have, has ended.

    Raises:
        ProjectError: `tuner_fn` raises, or gives no tuner.
        TrainingError: No trial was completed.
    """
    if not hasattr(project.module(), "tuner_fn"):
        return None
    tuner_fn = _function(project, "tuner_fn")
    work.mkdir(parents=True, exist_ok=True)
    fn_args = make_tuner_args(project, features, work)
    with _naming_line(project, tuner_fn):
        result = tuner_fn(fn_args)
    if not hasattr(result, "tuner") or not isinstance(getattr(result, "fit_kwargs", None), dict):
        where, expected = (
            function_line(tuner_fn),
            "must return a TunerFnResult with `tuner` and `fit_kwargs`",
        )
        raise ProjectError(
            where, expected, type(result).__name__, "See tfx.v1.components.TunerFnResult."
        )
    with _naming_line(project, tuner_fn):
        _call_after_trials(result.tuner, after_trial)
        result.tuner.search(**result.fit_kwargs)
        best = result.tuner.get_best_hyperparameters()
    if not best:
        remedy = "Raise the number of trials of the tuner, or look for why they fail."
        raise TrainingError(
            function_line(tuner_fn), "must complete at least one trial", "none", remedy
        )
    return {name: value for name, value in best[0].values.items() if isinstance(value, Value)}


def _call_after_trials(tuner: Any, after_trial: Callable[[], None]) -> None:
    end = getattr(tuner, "on_trial_end", None)
    if not callable(end):
        return

    @functools.wraps(end)
    def end_and_call(*arguments: Any, **named: Any) -> Any:
        result = end(*arguments, **named)
        after_trial()
        return result

    tuner.on_trial_end = end_and_call


def make_fn_args(
    project: Project,
    features: TransformedFeatures,
    hyperparameters: Hyperparameters,
    base_model: Path | None,
    work: Path,
    logs: Path,
) -> FnArgs:
    """Makes what TFX's Trainer gives `run_fn`.

    `working_dir`, which it leaves None, is filled too.
    """
    from tfx.components.trainer.fn_args_utils import FnArgs
    from tfx.utils import path_utils

    common = _common_fields(project, features, work)
    # FnArgs' types do not say that these may be None.
    optional: dict[str, Any] = {
        "base_model": str(base_model) if base_model else None,
        "hyperparameters": _tuner_config(hyperparameters),
    }
    fn_args = FnArgs(
        **common,
        **optional,
        transform_output=common["transform_graph_path"],
        schema_file=common["schema_path"],
        serving_model_dir=path_utils.serving_model_dir(str(work / "model")),
        eval_model_dir=path_utils.eval_model_dir(str(work / "model")),
        model_run_dir=str(logs),
    )
    # FnArgs does not declare it; TFX sets it where the Trainer is given statistics.
    vars(fn_args)["num_examples"] = {split: features.count(split) for split in ("train", "eval")}
    return fn_args


def make_tuner_args(project: Project, features: TransformedFeatures, work: Path) -> FnArgs:
    """Makes what TFX's Tuner gives `tuner_fn`: there is nowhere to save a model."""
    from tfx.components.trainer.fn_args_utils import FnArgs

    return FnArgs(**_common_fields(project, features, work))


def data_accessor() -> DataAccessor:
    """Gives TFX's access to gzipped TFRecords: as tf.data, and as Arrow record batches."""
    from tfx.components.trainer.fn_args_utils import DataAccessor
    from tfx.components.util.tfxio_utils import make_tfxio
    from tfx.proto import example_gen_pb2

    payload = example_gen_pb2.PayloadFormat.Value("FORMAT_TF_EXAMPLE")  # type: ignore[attr-defined]

    def read(files: list[str], schema: Schema | None) -> TFXIO:
        return make_tfxio(files, _TELEMETRY, payload, schema=schema)

    def as_dataset(files: list[str], options: Any, schema: Schema | None = None) -> tf.data.Dataset:
        return read(files, schema).TensorFlowDataset(options)

    def as_record_batches(
        files: list[str], options: Any, schema: Schema | None = None
    ) -> Iterator[pa.RecordBatch]:
        batches: Iterator[pa.RecordBatch] = read(files, schema).RecordBatches(options)
        return batches

    return DataAccessor(
        as_dataset, as_record_batches, data_view_decode_fn=None
    )  # no view: these are tf.Examples


def _common_fields(project: Project, features: TransformedFeatures, work: Path) -> dict[str, Any]:
    """Gives the fields of FnArgs that `run_fn` and `tuner_fn` are both given."""
    settings, train = project.settings.run_fn, project.settings.train
    passes = [math.ceil(features.count(split) / train.batch_size) for split in ("train", "eval")]
    return {
        "working_dir": str(work),
        "train_files": [_pattern(features, "train")],
        "eval_files": [_pattern(features, "eval")],
        "train_steps": settings.train_steps or train.epochs * passes[0],
        "eval_steps": settings.eval_steps or passes[1],
        "schema_path": str(project.schema_path),
        "transform_graph_path": str(_graph_with_schema(project, features, work)),
        "data_accessor": data_accessor(),
        "custom_config": settings.custom_config or None,
    }


def _pattern(features: TransformedFeatures, split: str) -> str:
    return str(features.folder / TRANSFORMED_EXAMPLES / f"Split-{split}" / "*")


def _graph_with_schema(project: Project, features: TransformedFeatures, work: Path) -> Path:
    """Puts the transform graph beside the raw schema, as TFX's Transform leaves it.

    `raw_feature_spec` reads both.
    """
    import tensorflow_transform as tft
    from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

    folder = work / _GRAPH_WITH_SCHEMA / TRANSFORM_GRAPH
    shutil.rmtree(folder, ignore_errors=True)
    link_tree(features.graph, folder)
    raw = folder / tft.TFTransformOutput.RAW_METADATA_DIR
    metadata_io.write_metadata(dataset_metadata.DatasetMetadata(project.schema), str(raw))
    return folder


def _tuner_config(hyperparameters: Hyperparameters) -> dict[str, Any] | None:
    """Gives the tuner's values as the config of a `keras_tuner.HyperParameters`.

    None where no tuner chose any.
    """
    import keras_tuner

    if not hyperparameters.model:
        return None
    constants = keras_tuner.HyperParameters()
    for name, value in hyperparameters.model.items():
        constants.Fixed(name, value)
    config: dict[str, Any] = constants.get_config()
    return config


def _function(project: Project, name: str) -> Callable[[FnArgs], Any]:
    function = getattr(project.module(), name, None)
    if not callable(function):
        where, expected = project.module_path.name, f"must define the function `{name}`"
        raise ProjectError(
            where, expected, type(function).__name__, "See TFX's guide of the Trainer."
        )
    return function  # type: ignore[no-any-return]


@contextmanager
def _naming_line(project: Project, function: Callable[[FnArgs], Any]) -> Iterator[None]:
    """Turns an error into a `ProjectError` that names the line of the user's file it came from."""
    try:
        yield
    except PerennialError:
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # a run_fn that ends the process must not pass for one that trained
        place = user_line(project.module_path, error)
        named = f"{place}: {function.__name__}"
        where = named if place != project.module_path.name else function_line(function)
        raise ProjectError(
            where, "must run on the transformed data", describe_error(error), "Correct it."
        ) from error
