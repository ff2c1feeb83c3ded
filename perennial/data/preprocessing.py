"""The user's `preprocessing_fn` and the raw examples it reads, for analysis and transformation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.data.examples import read_records
from perennial.data.worker_files import RootFile, Source, on_worker
from perennial.errors import PerennialError, ProjectError, WorkersError, describe_error
from perennial.project import PREPROCESSING, Project
from perennial.schema.environments import schema_in_use
from perennial.tasks import Task, weight_features
from perennial.user_module import function_line, user_line

if TYPE_CHECKING:
    import tensorflow as tf

Preprocessing = Callable[[dict[str, "tf.Tensor"]], dict[str, "tf.Tensor"]]

# TensorFlow's text of an operation that failed.
_NODE = re.compile(r"(?P<reason>[^\n]*)\n\s*\[\[\{\{node (?P<name>[^}]+)\}\}\]\]")
_DTYPES = ("float32", "int64", "string")  # what a tf.Example holds


def load_preprocessing(project: Project) -> Preprocessing:
    """Loads the user's `preprocessing_fn`, which also returns the labels that it leaves out.

    So it does the weights of examples, unless the module trains by itself.

    Raises:
        ProjectError: The module fails while it is imported.
    """
    weights = [] if project.uses_run_fn else weight_features(project.tasks)
    return with_labels(project.module().preprocessing_fn, project.tasks, weights)


def with_labels(
    preprocessing: Preprocessing, tasks: Sequence[Task], weights: Sequence[str] = ()
) -> Preprocessing:
    """Wraps the user's function so that a label that it does not return is added as it landed.

    So are the features `weights`, which it must not return.
    """

    def preprocess(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        import tensorflow as tf

        outputs: object = preprocessing(inputs)
        if not isinstance(outputs, dict):
            where, expected = function_line(preprocessing), "must return a dictionary of features"
            raise ProjectError(
                where, expected, type(outputs).__name__, "Return the features by name."
            )
        _check_types(preprocessing, outputs)
        labels = {}
        for task in tasks:
            if task.label not in outputs:
                if task.returned or task.label not in inputs:
                    raise _no_label(preprocessing, task, sorted(outputs))
                labels[task.label] = tf.cast(
                    inputs[task.label], tf.int64 if task.is_classes else tf.float32
                )
        for name in weights:
            if name in outputs:
                raise _returned_weight(preprocessing, name)
            labels[name] = tf.cast(inputs[name], tf.float32)
        return {**outputs, **labels}

    return preprocess


def _no_label(preprocessing: Preprocessing, task: Task, returned: Sequence[str]) -> ProjectError:
    expected = f"must return the label `{task.label}` of the task `{task.name}`"
    remedy = "Return it, or correct model.tasks in project.yaml."
    return ProjectError(
        function_line(preprocessing), expected, ", ".join(returned) or "nothing", remedy
    )


def _returned_weight(preprocessing: Preprocessing, name: str) -> ProjectError:
    expected = f"must leave `{name}` out, which weights examples as it landed"
    remedy = "Return it under another name, or take it out of model.tasks[].example_weight."
    return ProjectError(function_line(preprocessing), expected, f"it returns `{name}`", remedy)


def _check_types(preprocessing: Preprocessing, outputs: dict[str, Any]) -> None:
    """Checks that a tf.Example can hold the features; TFT's own message names no place."""
    for name, tensor in outputs.items():
        received = getattr(getattr(tensor, "dtype", None), "name", _DTYPES[0])
        if received not in _DTYPES:
            where, expected = (
                function_line(preprocessing),
                f"must return features of {', '.join(_DTYPES)}",
            )
            raise ProjectError(where, expected, f"`{name}` of {received}", "Use tf.cast.")


@contextmanager
def naming_user_line(project: Project) -> Iterator[None]:
    """Turns an error of the user's file into a `ProjectError` that names its line.

    That is an error while the function is traced, and one of an operation that it was traced to,
    wherever that met the data. An error for people that Beam wrapped into its own is raised as it
    was.
    """
    try:
        yield
    except Exception as error:
        cause = _perennial_cause(error)
        if cause is not None and not isinstance(cause, WorkersError):
            raise cause from None
        if (failed := _failed_operation(error)) is not None:
            raise ProjectError(
                _line_of(project, failed.name),
                "must run on the data",
                failed.reason,
                "Correct it, or set such examples aside by expectations.json.",
            ) from error
        if cause is not None:
            raise cause from None
        place = user_line(project.module_path, error)
        if place == project.module_path.name:
            raise  # not from the user's file
        raise ProjectError(
            f"{place}: {PREPROCESSING}",
            "must run on the data",
            describe_error(error),
            "Correct it.",
        ) from error


def _perennial_cause(error: BaseException | None) -> PerennialError | None:
    while error is not None and not isinstance(error, PerennialError):
        error = error.__cause__ or error.__context__
    return error


@dataclass(frozen=True)
class _FailedOperation:
    """An operation of a traced function that failed on data: its name in the graph, and why."""

    name: str
    reason: str


def _failed_operation(error: BaseException | None) -> _FailedOperation | None:
    """Finds which operation failed, by TensorFlow's text: Beam gives no more than that on."""
    while error is not None:
        if (named := _NODE.search(str(error))) is not None:
            return _FailedOperation(named["name"], named["reason"].strip())
        error = error.__cause__ or error.__context__
    return None


def _line_of(project: Project, operation: str) -> str:
    """Tells which line of the user's file an operation came from, or where the function begins.

    An operation within a condition or a loop is named below that, which is what has a line.
    """
    from tensorflow_transform import beam as tft_beam
    from tensorflow_transform import impl_helper

    function = project.module().preprocessing_fn
    specs = raw_examples(project, "trace").TensorAdapter().TypeSpecs()
    with tempfile.TemporaryDirectory() as scratch, tft_beam.Context(temp_dir=scratch):
        graph, _, _ = impl_helper.trace_preprocessing_function(function, specs, False, scratch)
    frames = {each.name: each.traceback for each in graph.get_operations()}
    parts = operation.split("/")
    for count in range(len(parts), 0, -1):
        for frame in reversed(frames.get("/".join(parts[:count]), ())):
            if Path(frame.filename) == project.module_path:
                return f"{project.module_path.name}:{frame.lineno}: {PREPROCESSING}"
    return function_line(function)


def raw_examples(project: Project, step: str, raw_column: str | None = None) -> Any:
    """Makes the TFXIO that turns serialised tf.Examples into Arrow batches by the schema.

    Features that are not in use are left out: examples may hold values of another type for them.

    Args:
        project: Whose schema is read by.
        step: Name of the step, for Beam's metrics.
        raw_column: Name of a column to add that holds the serialised example.

    Raises:
        ProjectError: The schema gives a feature no tensor.
    """
    from tfx_bsl.public import tfxio

    examples = tfxio.TFExampleBeamRecord(
        physical_format="tfrecord",
        schema=schema_in_use(project.schema),
        telemetry_descriptors=["perennial", step],
        raw_record_column_name=raw_column,
    )
    try:
        examples.TensorAdapterConfig()
    except ValueError as error:
        expected, remedy = (
            "must say what tensor each feature becomes",
            "Correct the feature that is named.",
        )
        raise ProjectError(project.schema_path.name, expected, error, remedy) from None
    return examples


def read_batches(pipeline: Any, name: str, files: Sequence[Source], examples: Any) -> Any:
    """Reads TFRecord files as Arrow batches; more files do not make the pipeline larger."""
    import apache_beam as beam

    # Files in the root are spread over the workers that are elsewhere.
    spread = any(isinstance(file, RootFile) for file in files)
    return (
        pipeline
        | f"Files[{name}]" >> beam.Create(list(files), reshuffle=spread)
        | f"Read[{name}]" >> beam.FlatMap(_read).with_output_types(bytes)
        | f"Decode[{name}]" >> examples.BeamSource()
    )


def _read(file: Source) -> Iterator[bytes]:
    with on_worker(file) as path:
        yield from read_records([path])
