"""The input pipeline: transformed TFRecords to batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import ProjectError
from perennial.examples import split_files

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

TRANSFORM_GRAPH = "transform_graph"
TRANSFORMED_EXAMPLES = "transformed_examples"


@dataclass(frozen=True)
class TransformedFeatures:
    """What `transform_features` left in a folder: the transform graph and the transformed examples."""

    folder: Path
    label: str

    @property
    def graph(self) -> Path:
        """Folder of the TensorFlow Transform output."""
        return self.folder / TRANSFORM_GRAPH

    def transform_output(self) -> tft.TFTransformOutput:
        """The transform graph, loaded."""
        import tensorflow_transform as tft

        return tft.TFTransformOutput(str(self.graph))

    def split(self, split: str) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """All examples of a split in memory: features by name, each [n, ...], and labels, int64 [n].

        Raises:
            ProjectError: The window has no example in this split.
        """
        import tensorflow as tf

        files = split_files(self.folder / TRANSFORMED_EXAMPLES, split)
        spec = self.transform_output().transformed_feature_spec()
        records = list(tf.data.TFRecordDataset(files, compression_type="GZIP"))
        if not records:
            where = f"project.yaml: data.splits.{split}"
            raise ProjectError(where, "must leave some examples of the window", "none", "Land more data, or raise it.")
        features = tf.io.parse_example(tf.stack(records), spec)
        return features, tf.reshape(tf.cast(features.pop(self.label), tf.int64), [-1])


def batches(
    features: dict[str, tf.Tensor], labels: tf.Tensor, batch_size: int, seed: int | None = None
) -> tf.data.Dataset:
    """Batches of (features, labels); shuffled anew in each pass when a seed is given, in order when not.

    A last batch that is smaller is kept.
    """
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((features, labels))
    if seed is not None:
        dataset = dataset.shuffle(int(labels.shape[0]), seed=seed, reshuffle_each_iteration=True)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
