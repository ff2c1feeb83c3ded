"""What the tests of `explaining` run in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_halves(folder: Path, sparse: bool) -> dict[str, Any] | None:
    """Saves and loads a module with two halves.

    Gives what they answer, or None where there are none.
    """
    import tensorflow as tf

    from perennial.export.gradient_functions import Halves, add_halves, halves_of

    def transform(examples: Any) -> Any:
        parsed = tf.io.parse_example(
            examples,
            {
                "size": tf.io.FixedLenFeature([], tf.float32),
                "words": tf.io.VarLenFeature(tf.string),
            },
        )
        words = parsed["words"] if sparse else tf.sparse.to_dense(parsed["words"])[:, :1]
        return {"size": parsed["size"] * 2, "words": words}

    def predict(given: Any) -> Any:
        known = tf.cast(tf.equal(given["words"][:, 0], b"yes"), tf.float32)
        return {"value": given["size"] ** 2 + 10 * known}

    module = tf.Module()
    add_halves(module, Halves(transform, predict))
    tf.saved_model.save(module, str(folder))
    return _ask_halves(halves_of(tf.saved_model.load(str(folder))))


def _ask_halves(halves: Any) -> dict[str, Any] | None:
    import tensorflow as tf

    from components.probe_model.gradients import average_example, explain
    from perennial.data.examples import to_example

    if halves is None:
        return None
    rows = [
        {"size": 1.0, "words": ["no"]},
        {"size": 2.0, "words": ["yes"]},
        {"size": 3.0, "words": ["no"]},
    ]
    given = halves.transform(tf.constant([to_example(row).SerializeToString() for row in rows]))
    features = {name: values.numpy() for name, values in given.items()}
    found = explain(
        lambda asked: halves.predict(asked)["value"], features, average_example(features), 8
    )
    return {
        "features": features,
        "outputs": found.outputs,
        **found.attributions,
        "occluded": found.occluded,
    }
