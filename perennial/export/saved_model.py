"""The served model: the transform graph and the trained model in one SavedModel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import IntegrityError
from perennial.export.argument_names import argument_names
from perennial.export.contract import EXTRA, parsing_specs, served_features, write_contract
from perennial.export.gradient_functions import Halves, add_halves
from perennial.export.temperature_scaling import Temperatures, both_classes, scale
from perennial.project import Project
from perennial.schema.environments import serving_features
from perennial.tasks import LATENT, Task, output_name
from perennial.training.artifacts import WEIGHTS_FILE
from perennial.training.losses import predicted_classes, task_outputs
from perennial.training.model_builder import latent_tensor
from perennial.training.model_call import call_model
from perennial.training.transformed_features import TransformedFeatures
from perennial.training.weights import Weights, load_weights, save_weights, weights_of
from schemas.records import ModelContract, ServedTask

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

SERVING_SIGNATURE = "serving_default"
EXAMPLES_SIGNATURE = "serve_examples"
LABELS_SIGNATURE = "label_examples"

Tensors = dict[str, "tf.Tensor"]


def export_model(
    model: keras.Model,
    project: Project,
    features: TransformedFeatures,
    folder: Path,
    temperatures: Temperatures | None = None,
) -> None:
    """Writes a SavedModel with three signatures, its contract, and its weights by path.

    `serving_default` takes the raw features of the schema's SERVING environment, each [n, ...], by
    the names of `perennial.export.argument_names`; `serve_examples` takes serialised tf.Examples,
    string [n]. Both give what `perennial.tasks.PARTS` says of each task, and `latent` float32 [n,
    d] where the model has a latent vector. `label_examples` takes serialised labelled tf.Examples
    and gives each task's label. Beside the signatures stand the functions of `explaining`. The
    weights are those of the model that is not calibrated.

    Args:
        model: A model of transformed features.
        project: Whose tasks and schema decide.
        features: What `transform_features` left.
        folder: Is made.
        temperatures: What each task's logits are divided by (`calibrating.fit_temperatures`).

    Raises:
        ProjectError: A feature that clients send has no fixed shape in the schema.
    """
    import tensorflow as tf

    module = tf.Module()
    module.model = with_latent(model, project)
    transform = features.transform_within(module)

    def predict_transformed(transformed: Tensors) -> Tensors:
        outputs = call_model(module.model, transformed, training=False)
        return named_outputs(outputs, project.tasks, temperatures)

    def predict(raw: Tensors) -> Tensors:
        return predict_transformed(transform(raw))

    def transform_examples(examples: tf.Tensor) -> Tensors:
        parsing = parsing_specs(project.schema, serving_features(project.schema))
        return transform(tf.io.parse_example(examples, parsing))

    signatures = serving_signatures(predict, project.schema)
    add_halves(module, Halves(transform_examples, predict_transformed))
    signatures[LABELS_SIGNATURE] = labels_signature(transform, project)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    write_contract(make_contract(signatures[EXAMPLES_SIGNATURE], project, temperatures), folder)
    save_weights(weights_of(model), folder / EXTRA / WEIGHTS_FILE)


def with_latent(model: keras.Model, project: Project) -> keras.Model:
    """Gives the model with the output `latent` beside its tasks.

    Unchanged where it has that already, or has none to show.

    Raises:
        ProjectError: The layer that the settings name is not there.
    """
    import keras

    tensor = latent_tensor(model, project.settings.model.latent)
    if tensor is None:
        return model
    outputs = (
        model.output if isinstance(model.output, dict) else {project.tasks[0].name: model.output}
    )
    return keras.Model(model.input, {**outputs, LATENT: tensor})


def named_outputs(
    outputs: Any, tasks: Sequence[Task], temperatures: Temperatures | None = None
) -> Tensors:
    """Gives a model's outputs as they are served, by name.

    A temperature changes probabilities, never a class.
    """
    import tensorflow as tf

    names, served = [task.name for task in tasks], {}
    for task, output in zip(tasks, task_outputs(outputs, tasks).values(), strict=True):
        output = tf.cast(output, tf.float32)
        if task.kind == "regression":
            served[output_name(names, task.name, "value")] = tf.reshape(output, [-1])
            continue
        served[output_name(names, task.name, "class")] = predicted_classes(task, output)
        probabilities = both_classes(output) if task.kind == "binary" else output
        temperature = (temperatures or {}).get(task.name)
        served[output_name(names, task.name, "probabilities")] = scale(probabilities, temperature)
    if isinstance(outputs, dict) and LATENT in outputs:
        latent = tf.cast(outputs[LATENT], tf.float32)
        length = math.prod(latent.shape[1:])
        served[LATENT] = tf.reshape(latent, [-1, length])
    return served


def serving_signatures(predict: Callable[[Tensors], Tensors], schema: Schema) -> dict[str, Any]:
    """Makes the two signatures that predict, of a function of raw features.

    Raises:
        ProjectError: A feature that clients send has no fixed shape in the schema.
    """
    import tensorflow as tf

    parsing = parsing_specs(schema, serving_features(schema))
    arguments = argument_names(parsing)

    def serve_columns(columns: Tensors) -> Tensors:
        return predict({name: columns[argument] for name, argument in arguments.items()})

    def serve_examples(examples: tf.Tensor) -> Tensors:
        return predict(tf.io.parse_example(examples, parsing))

    specs = {
        arguments[name]: tf.TensorSpec(spec.shape, spec.dtype, name=arguments[name])
        for name, spec in serving_specs(schema).items()
    }
    return {
        SERVING_SIGNATURE: tf.function(serve_columns, autograph=False).get_concrete_function(specs),
        EXAMPLES_SIGNATURE: tf.function(serve_examples, autograph=False).get_concrete_function(
            tf.TensorSpec([None], tf.string, name="examples")
        ),
    }


def labels_signature(transform: Callable[[Tensors], Tensors], project: Project) -> Any:
    """Makes the signature that gives the labels of labelled examples by task.

    They are int64 [n] of classes, float32 [n] of values.

    Args:
        transform: The transform graph as a function of raw features.
        project: Whose tasks and schema decide.
    """
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    parsing = schema_utils.schema_as_feature_spec(project.schema).feature_spec

    def label_examples(examples: tf.Tensor) -> Tensors:
        transformed = transform(tf.io.parse_example(examples, parsing))
        kinds = {task.name: tf.int64 if task.is_classes else tf.float32 for task in project.tasks}
        labels = {task.name: transformed[task.label] for task in project.tasks}
        return {
            name: tf.reshape(tf.cast(label, kinds[name]), [-1]) for name, label in labels.items()
        }

    function = tf.function(label_examples, autograph=False)
    return function.get_concrete_function(tf.TensorSpec([None], tf.string, name="examples"))


def make_contract(
    serve_examples: Any, project: Project, temperatures: Temperatures | None = None
) -> ModelContract:
    """Makes the contract of a model with this signature."""
    names = [task.name for task in project.tasks]
    outputs = serve_examples.structured_outputs
    tasks = [
        ServedTask(
            name=task.name,
            kind=task.kind,
            classes=outputs[output_name(names, task.name, "probabilities")].shape[1]
            if task.is_classes
            else None,
            temperature=(temperatures or {}).get(task.name),
        )
        for task in project.tasks
    ]
    latent = outputs[LATENT].shape[1] if LATENT in outputs else None
    return ModelContract(
        features=served_features(project.schema),
        tasks=tasks,
        latent=latent,
        missing=project.settings.data.missing,
    )


def serving_specs(schema: Schema) -> dict[str, tf.TensorSpec]:
    """Gives the tensor spec of each raw feature that a client sends, by name.

    The first dimension is the batch.

    Raises:
        ProjectError: A feature has no fixed shape.
    """
    import tensorflow as tf

    specs = parsing_specs(schema, serving_features(schema))
    return {name: tf.TensorSpec([None, *spec.shape], spec.dtype) for name, spec in specs.items()}


def read_exported_weights(saved_model: Path) -> Weights:
    """Reads the weights of an exported model by path.

    Raises:
        IntegrityError: It holds none, or a damaged file: a model of `run_fn`, or one from
            elsewhere.
    """
    file = saved_model / EXTRA / WEIGHTS_FILE
    try:
        return load_weights(file)
    except (OSError, ValueError) as error:
        raise IntegrityError(
            str(file), "must hold the model's weights", error, "Train anew."
        ) from None
