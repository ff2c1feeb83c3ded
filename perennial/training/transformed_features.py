"""The transformed examples: features and labels as training reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.data.examples import split_files
from perennial.errors import ProjectError
from perennial.tasks import Task, weight_features

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    import tensorflow_transform as tft

TRANSFORM_GRAPH = "transform_graph"
TRANSFORMED_EXAMPLES = "transformed_examples"
_COUNTED = 4096

Features = dict[str, "tf.Tensor"]
"""Transformed features by name, each [n, ...]."""
Labels = dict[str, "tf.Tensor"]
"""Labels by task: int64 [n] of classes, float32 [n] of values.

Beside them, by `Task.weights`, what examples count in a task that weights them: float32 [n], 1 on
average over the train split.
"""


@dataclass(frozen=True)
class TransformedFeatures:
    """The folder of `transform_features`: the transform graph and the transformed examples."""

    folder: Path
    tasks: tuple[Task, ...]

    @property
    def graph(self) -> Path:
        """Gives the folder of the TensorFlow Transform output."""
        return self.folder / TRANSFORM_GRAPH

    def transform_output(self) -> tft.TFTransformOutput:
        """Loads the transform graph."""
        import tensorflow_transform as tft

        return tft.TFTransformOutput(str(self.graph))

    def transform_within(self, module: tf.Module) -> Callable[[Mapping[str, Any]], Features]:
        """Gives the transform graph as a function of raw features.

        It is for functions that `module` is saved with.

        TensorFlow Transform's own layer is a Keras model: saving it translates and traces the graph
        once more, for Keras to load, which takes longer than the rest of the export.
        """
        from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

        loader = SavedModelLoader(self.transform_output().transform_savedmodel_dir)
        module.transform_graph = vars(loader)  # what the function reads is saved with the module
        function: Callable[[Mapping[str, Any]], Features] = loader.apply_transform_model
        return function

    def files(self, split: str) -> list[str]:
        """Lists the gzipped TFRecord files of a split."""
        return split_files(self.folder / TRANSFORMED_EXAMPLES, split)

    def records(self, split: str) -> tf.data.Dataset:
        """Reads the serialised examples of a split, in the order of the files."""
        import tensorflow as tf

        return tf.data.TFRecordDataset(
            self.files(split), compression_type="GZIP", buffer_size=1 << 20
        )

    def count(self, split: str) -> int:
        """Counts the examples of a split.

        Raises:
            ProjectError: None.
        """
        if split not in self._counts:
            self._counts[split] = sum(
                len(batch) for batch in self.records(split).batch(_COUNTED).as_numpy_iterator()
            )
        if not self._counts[split]:
            raise ProjectError(
                where=f"project.yaml: data.splits.{split}",
                expected="must leave some examples of the window",
                received="none",
                remedy="Land more data, or raise it.",
            )
        return self._counts[split]

    def sample(self, split: str, most: int) -> tuple[Features, Labels]:
        """Reads the first examples of a split into memory.

        Raises:
            ProjectError: The window has no example in this split.
        """
        import tensorflow as tf

        records = list(self.records(split).take(most))
        if not records:
            self.count(split)
        return self.parse(tf.stack(records))

    def split(self, split: str) -> tuple[Features, Labels]:
        """Reads all examples of a split into memory.

        Raises:
            ProjectError: The window has no example in this split.
        """
        return self.sample(split, self.count(split))

    def parse(self, examples: tf.Tensor) -> tuple[Features, Labels]:
        """Parses serialised transformed examples, string [n], into features and labels.

        Also inside a graph.
        """
        import tensorflow as tf

        features = tf.io.parse_example(examples, self._spec)
        labels = {}
        for task in self.tasks:
            dtype = tf.int64 if task.is_classes else tf.float32
            labels[task.name] = tf.reshape(tf.cast(features[task.label], dtype), [-1])
            weight = self._weight_of(task)
            if weight is not None:
                values = tf.reshape(tf.cast(features[weight], tf.float32), [-1])
                labels[task.weights] = values / self.mean_weight(weight)
        for name in {task.label for task in self.tasks}.union(self.weight_features()):
            del features[name]
        return features, labels

    def weight_features(self) -> list[str]:
        """Lists the features that weight examples, which no model reads.

        There are none where the module trains by itself: then it knows which they are.
        """
        return [name for name in weight_features(self.tasks) if name in self._spec]

    def mean_weight(self, name: str) -> float:
        """Computes the mean of a feature that weights examples, over the train split."""
        import numpy as np
        import tensorflow as tf

        if name not in self._means:
            with tf.init_scope():  # it is also asked for while a graph is made
                values = self._values(name, "train")
            # Without examples, training says so.
            self._means[name] = float(np.mean(values, dtype=np.float64)) if len(values) else 1.0
        return self._means[name]

    def label_values(self, task: Task, split: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Reads a task's labels of all examples of a split, as `preprocessing_fn` gave them, [n].

        Their type is that of the transformed feature: a class may be a float.
        """
        return self._values(task.label, split)

    def _weight_of(self, task: Task) -> str | None:
        return task.example_weight if task.example_weight in self.weight_features() else None

    def _values(self, name: str, split: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Reads a feature of one value of all examples of a split, [n]."""
        import numpy as np
        import tensorflow as tf

        files = self.files(split)
        if not files:
            return np.empty(0)
        spec = {name: self._spec[name]}
        parts = [
            np.ravel(tf.io.parse_example(examples, spec)[name].numpy())
            for examples in self.records(split).batch(_COUNTED)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def classes(self, task: Task) -> int:
        """Counts the classes of a task: one more than the greatest label that is trained on."""
        if task.name not in self._classes:
            most = [self.label_values(task, split) for split in ("train", "eval")]
            self._classes[task.name] = 1 + max(int(each.max()) for each in most if len(each))
        return self._classes[task.name]

    @cached_property
    def _means(self) -> dict[str, float]:
        return {}

    @cached_property
    def _classes(self) -> dict[str, int]:
        return {}

    @cached_property
    def _spec(self) -> dict[str, object]:
        spec: dict[str, object] = self.transform_output().transformed_feature_spec()
        return spec

    @cached_property
    def _counts(self) -> dict[str, int]:
        return {}
