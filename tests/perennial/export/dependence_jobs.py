"""SavedModels that are given more than they read; runs in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAMES = ("ignored", "parsed (cm)", "shape", "tested", "used")


def unread_of(folder: Path) -> dict[str, frozenset[str]]:
    """What a model does not read: for each of its outputs, by its name."""
    import tensorflow as tf

    from perennial.export.argument_names import argument_names
    from perennial.export.input_dependence import unread_features
    from perennial.tfx_module.example_encoder import encode_examples

    @tf.function(autograph=False)
    def both(first: Any, second: Any) -> Any:
        return first * 2.0, second * 3.0

    @tf.function(autograph=False)
    def of_examples(records: Any) -> Any:
        """As the signature of a module of `run_fn`: it parses more than it reads."""
        specs = {name: tf.io.FixedLenFeature([], tf.float32) for name in NAMES}
        return both(tf.io.parse_example(records, specs)["parsed (cm)"], 1.0)[0]

    arguments = argument_names(NAMES)

    def serve(**given: Any) -> Any:
        raw = {name: given[argument] for name, argument in arguments.items()}
        tf.debugging.assert_positive(raw["tested"])
        used, ignored = both(raw["used"], raw["ignored"])
        blank = tf.zeros_like(raw["shape"]) + tf.cast(tf.size(raw["shape"]), tf.float32)
        return {
            "value": used + blank,
            "other": ignored,
            "examples": of_examples(encode_examples(raw)),
            "looped": tf.while_loop(lambda _: False, lambda x: x, [raw["tested"]])[0],
        }

    specs = {
        argument: tf.TensorSpec([None], tf.float32, name=argument)
        for argument in arguments.values()
    }
    function = tf.function(serve, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": function})
    return {
        name: unread_features(folder, "serving_default", arguments, [name])
        for name in ("value", "other", "examples", "looped", "nothing")
    }
