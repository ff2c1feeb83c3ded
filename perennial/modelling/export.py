"""The served model: the transform graph and the trained model in one SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError
from perennial.examples import serving_features

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    import tensorflow_transform as tft
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

SERVING_SIGNATURE = "serving_default"
EXAMPLES_SIGNATURE = "serve_examples"


def export_model(model: keras.Model, transform_output: tft.TFTransformOutput, schema: Schema, folder: Path) -> None:
    """Writes a SavedModel with two signatures that give `class` int64 [n] and `probabilities` float32 [n, classes].

    `serving_default` takes the raw features of the schema's SERVING environment by name, each [n, ...];
    `serve_examples` takes serialised tf.Examples, string [n].

    Raises:
        ProjectError: A feature that clients send has no fixed shape in the schema.
    """
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    specs = serving_specs(schema)
    # As the schema has it, with what stands for a feature that an example lacks.
    parsing = schema_utils.schema_as_feature_spec(schema).feature_spec
    module = tf.Module()
    module.model = model
    module.transform = transform_output.transform_features_layer()

    def serve(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        scores = module.model(module.transform(features), training=False)
        return {"class": tf.argmax(scores, axis=-1), "probabilities": scores}

    def serve_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return serve(tf.io.parse_example(examples, {name: parsing[name] for name in specs}))

    signatures = {
        SERVING_SIGNATURE: tf.function(serve).get_concrete_function(specs),
        EXAMPLES_SIGNATURE: tf.function(serve_examples).get_concrete_function(
            tf.TensorSpec([None], tf.string, name="examples")
        ),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def serving_specs(schema: Schema) -> dict[str, tf.TensorSpec]:
    """Name -> tensor spec of each raw feature that a client sends, with the batch as first dimension.

    Raises:
        ProjectError: A feature has no fixed shape.
    """
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    parsing = schema_utils.schema_as_feature_spec(schema).feature_spec
    specs = {}
    for name in serving_features(schema):
        if not isinstance(parsing[name], tf.io.FixedLenFeature):
            found, remedy = type(parsing[name]).__name__, 'Give it a `shape`, or `not_in_environment: "SERVING"`.'
            raise ProjectError(f"schema.pbtxt: {name}", "must have a fixed shape, as clients send it", found, remedy)
        specs[name] = tf.TensorSpec([None, *parsing[name].shape], parsing[name].dtype, name=name)
    return specs


def load_examples_signature(folder: Path) -> Any:
    """Loads a SavedModel and gives its `serve_examples` function; the model lives as long as the function."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures[EXAMPLES_SIGNATURE]
    function.model = loaded
    return function
