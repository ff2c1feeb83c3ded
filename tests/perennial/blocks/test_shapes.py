"""Stems, learners and tasks.

What fits what, shapes, dtypes, weight paths, and that models travel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perennial import blocks
from tests.forked import forked
from tests.perennial.blocks.jobs import LENGTH, error_of

ROWS = 5
HEADS = [blocks.binary("tipped"), blocks.multi_class(4, "kind"), blocks.regression("fare")]
COLUMNS: dict[str, Any] = {
    "numeric": {"miles": 1, "place": 3},
    "categorical": {"payment": 5, "company": 40},
}
# stem, learner, width of the latent vector
FITTING = {
    "table mlp": ("table", "mlp", 24),
    "tokens encoder": ("tokens", "encoder", 16),
    "tokens mlp": ("tokens", "mlp", 24),
    "image residual": ("image", "residual", 16),
    "image mlp": ("image", "mlp", 24),
    "text encoder": ("text", "encoder", 16),
    "text mlp": ("text", "mlp", 24),
}
STEM_SHAPES = {"table": [26], "tokens": [4, 16], "image": [8, 8, 6], "text": [LENGTH, 16]}


def stem(kind: str, name: str = "stem") -> Any:
    if kind == "table":
        return blocks.table_stem(**COLUMNS, embedding=11, name=name)
    if kind == "tokens":
        return blocks.table_tokens(**COLUMNS, width=16, name=name)
    if kind == "image":
        return blocks.image_stem("pixels", (8, 8, 1), flat=True, filters=6, name=name)
    return blocks.text_stem("words", vocabulary=50, length=LENGTH, width=16, name=name)


def learner(kind: str, name: str = "learner") -> Any:
    if kind == "mlp":
        return blocks.mlp((32, 24), name=name)
    if kind == "residual":
        return blocks.residual_groups(groups=2, blocks=2, filters=8, name=name)
    return blocks.transformer_encoder(blocks=2, heads=2, name=name)


def inputs() -> dict[str, Any]:
    """One batch for every stem.

    Dense in the forms that parsing gives, with numbers beyond every vocabulary.
    """
    import tensorflow as tf

    draw = np.random.default_rng(1)
    words = draw.integers(1, 51, (ROWS, LENGTH))
    words[1, 4:], words[2], words[3, :3] = 0, 0, [-7, 51, 2**40]
    return {
        "miles": tf.constant(draw.normal(size=ROWS), tf.float32),
        "place": tf.constant(draw.integers(0, 9, (ROWS, 3)), tf.int64),
        "payment": tf.constant([0, 4, 5, -1, 2**40], tf.int64),
        "company": tf.constant([[0], [39], [40], [-(2**40)], [7]], tf.int64),
        "pixels": tf.constant(draw.random((ROWS, 64)), tf.float32),
        "words": tf.constant(words, tf.int64),
        "another": tf.zeros(
            [ROWS, 2], tf.int64
        ),  # preprocessing_fn may give more than a model reads
    }


def described() -> dict[str, Any]:
    import tensorflow as tf

    found = {}
    for case, (kind, learned_by, _) in FITTING.items():
        model = blocks.assemble(stem(kind), learner(learned_by), HEADS)
        outputs = model(inputs(), training=False)
        found[case] = {
            "outputs": {
                name: (output.dtype.name, output.shape.as_list())
                for name, output in outputs.items()
            },
            "finite": all(
                bool(tf.reduce_all(tf.math.is_finite(output))) for output in outputs.values()
            ),
            "sums": tf.reduce_sum(outputs["kind"], axis=1).numpy(),
            "probabilities": outputs["tipped"].numpy(),
            "stem": list(model.get_layer("stem").output.shape[1:]),
            "learner": list(model.get_layer("learner").output.shape[1:]),
            "paths": [weight.path for weight in model.weights],
            "inputs": sorted(tensor.name for tensor in model.inputs),
        }
    return found


@pytest.fixture(scope="module")
def models():
    return forked(described)


@pytest.mark.parametrize("case", FITTING)
def test_outputs_have_the_shapes_and_dtypes_that_are_documented(models, case):
    kind, _, width = FITTING[case]
    found = models[case]
    shapes = {"tipped": [ROWS, 1], "kind": [ROWS, 4], "fare": [ROWS, 1], "latent": [ROWS, width]}
    assert found["outputs"] == {name: ("float32", shape) for name, shape in shapes.items()}
    assert found["stem"] == STEM_SHAPES[kind] and found["learner"] == [width]
    assert found["finite"], (
        "numbers beyond the vocabulary, a feature more and an empty text are no trouble"
    )
    assert np.allclose(found["sums"], 1) and np.all(
        (found["probabilities"] > 0) & (found["probabilities"] < 1)
    )


def test_weight_paths_are_readable_and_stable(models):
    assert {path.split("/")[0] for case in models.values() for path in case["paths"]} == {
        "stem",
        "learner",
        "task",
    }
    assert all(len(set(case["paths"])) == len(case["paths"]) for case in models.values())
    assert {"stem/payment/embeddings", "learner/layer2/kernel", "task/tipped/bias"} <= set(
        models["table mlp"]["paths"]
    )
    residual = {
        "stem/conv/kernel",
        "learner/group1/block2/conv1/kernel",
        "learner/group2/block1/shortcut/kernel",
    }
    assert residual <= set(models["image residual"]["paths"])
    encoder = {
        "stem/words/embeddings",
        "learner/block2/attention/query/kernel",
        "learner/block1/norm1/gamma",
    }
    assert encoder <= set(models["text encoder"]["paths"])
    assert "stem/miles/kernel" in models["tokens encoder"]["paths"]


def test_inputs_have_the_names_of_the_features(models):
    assert models["tokens encoder"]["inputs"] == ["company", "miles", "payment", "place"]


def of_numbers() -> dict[str, Any]:
    """Stems on numbers inside and outside of the vocabulary, and with the other forms of a feature."""
    import tensorflow as tf

    given, found = inputs(), {}
    table = stem("table")
    one = table({name: given[name] for name in table.specs()})
    found["table"] = one.numpy()[:, 4:15]
    texts = stem("text")
    found["text"] = texts({"words": given["words"]}).numpy()[3]
    whole = blocks.assemble(
        blocks.image_stem("pixels", (8, 8, 1)), blocks.mlp((4,)), blocks.binary()
    )
    squared = {"pixels": tf.reshape(given["pixels"], [-1, 8, 8])}
    found["image"] = whole(squared)["latent"].shape.as_list()
    both = [{**given, "miles": given["miles"][:, None], "company": given["company"][:, 0]}, given]
    model = blocks.assemble(table, blocks.mlp((4,)), blocks.binary())
    found["forms"] = [model(features)["latent"].numpy() for features in both]
    return found


def test_all_numbers_beyond_a_vocabulary_mean_the_same():
    found = forked(of_numbers)
    payments = found["table"]
    assert np.array_equal(payments[2], payments[3]) and np.array_equal(payments[2], payments[4])
    assert not np.array_equal(payments[0], payments[1]) and not np.array_equal(
        payments[1], payments[2]
    )
    unknown = found["text"][:3]  # the same word at three places
    assert not np.array_equal(unknown[0], unknown[1])
    turned = unknown - positions_of(3, 16)
    assert np.allclose(turned[0], turned[1], atol=1e-5) and np.allclose(
        turned[0], turned[2], atol=1e-5
    )
    assert found["image"] == [ROWS, 4]
    assert np.array_equal(*found["forms"]), "[batch] and [batch, 1] are the same feature"


def positions_of(length: int, width: int) -> np.ndarray:
    angles = np.arange(length)[:, None] / 10_000 ** (np.arange(width // 2) / (width // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def padded() -> list[np.ndarray]:
    """Latent vectors of the same texts, filled up to their own length, to 16 and, in other texts' company, to 30."""
    import tensorflow as tf

    texts, encoder = stem("text"), learner("encoder")
    words = tf.constant([[3, 9, 4, 51, 7], [5, 5, 0, 0, 0]], tf.int64)
    found = []
    for fill, longer in ((0, 0), (11, 0), (25, 3)):
        batch = tf.concat(
            [tf.pad(words, [[0, 0], [0, fill]]), tf.ones([longer, 5 + fill], tf.int64)], axis=0
        )
        found.append(encoder(texts({"words": batch}))[:2].numpy())
    found.append(encoder(texts({"words": words[:, ::-1]})).numpy())
    found.append(encoder(texts({"words": tf.zeros([1, 7], tf.int64)})).numpy())
    return found


def test_padding_does_not_change_a_latent_vector():
    short, long, among, backwards, empty = forked(padded)
    assert np.allclose(short, long, atol=1e-5) and np.allclose(short, among, atol=1e-5)
    assert not np.allclose(short, backwards, atol=1e-2), "but the order of the words does"
    assert not empty.any()


def two_learners() -> dict[str, Any]:
    """A model of an image, a table and a text; also with a learner of Keras's own on the text."""
    import keras

    joined = blocks.joined(
        (stem("image", "photo"), learner("residual", "eyes")),
        (stem("table", "facts"), learner("mlp", "sense")),
        (stem("text", "review"), keras.layers.LSTM(5, name="reader")),
    )
    model = blocks.assemble(joined, blocks.mlp((12,)), HEADS)
    outputs = model(inputs())
    own = keras.layers.GlobalAveragePooling1D(name="own")(
        stem("text")(wanted := {"words": new_words()})
    )
    return {
        "shapes": {name: output.shape.as_list() for name, output in outputs.items()},
        "parts": {weight.path.split("/")[0] for weight in model.weights},
        "joined": list(model.get_layer("joined").output.shape[1:]),
        "own": list(blocks.with_tasks(wanted, own, blocks.binary()).output["latent"].shape[1:]),
    }


def new_words() -> Any:
    import keras

    return keras.Input((LENGTH,), dtype="int64", name="words")


def test_several_learners_in_one_model_keep_their_names():
    found = forked(two_learners)
    assert found["shapes"]["latent"] == [ROWS, 12] and found["joined"] == [16 + 24 + 5]
    assert found["parts"] == {
        "photo",
        "eyes",
        "facts",
        "sense",
        "review",
        "reader",
        "learner",
        "task",
    }
    assert found["own"] == [16]


def travelled(folder: Any, case: str, precision: str) -> list[Any]:
    """Outputs of a model, of a compiled function of it, and of its SavedModel, loaded anew."""
    import keras
    import tensorflow as tf

    keras.config.set_dtype_policy(precision)
    kind, learned_by, _ = FITTING[case]
    model = blocks.assemble(stem(kind), learner(learned_by), HEADS)
    given = {tensor.name: inputs()[tensor.name] for tensor in model.inputs}
    specs = {
        name: tf.TensorSpec([None, *value.shape[1:]], value.dtype, name=name)
        for name, value in given.items()
    }
    module = tf.Module()
    module.model = model
    serve = tf.function(
        lambda features: module.model(features, training=False), input_signature=[specs]
    )
    tf.saved_model.save(module, str(folder), signatures=serve.get_concrete_function(specs))
    loaded, plain = (
        tf.saved_model.load(str(folder)).signatures["serving_default"](**given),
        model(given, training=False),
    )
    compiled = serve(given)
    trained = tf.function(lambda features: model(features, training=True), jit_compile=True)(given)
    return [{name: (output.dtype.name, output.numpy()) for name, output in outputs.items()}
            for outputs in (plain, compiled, loaded, trained)]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        ("image residual", "float32"),
        ("text encoder", "mixed_bfloat16"),
        ("table mlp", "mixed_bfloat16"),
    ],
)
def test_saved_model_gives_the_same_outputs(tmp_path, case, precision):
    plain, compiled, loaded, trained = forked(travelled, tmp_path / "model", case, precision)
    for name, (dtype, output) in plain.items():
        assert dtype == loaded[name][0] == trained[name][0] == "float32"
        # Compiled, 16-bit values are rounded at other places.
        rounding = 1e-5 if precision == "float32" else 0.05 * max(1, np.abs(output).max())
        assert np.allclose(output, loaded[name][1], atol=rounding)
        assert np.array_equal(compiled[name][1], loaded[name][1])
        assert np.isfinite(trained[name][1]).all()


def misfits() -> dict[str, str]:
    import keras

    def on(kind: str, learned_by: Any, tasks: Any = HEADS) -> str:
        return error_of(blocks.assemble, stem(kind), learned_by, tasks)

    return {
        "image": on("table", learner("residual")),
        "sequence": on("table", learner("encoder")),
        "heads": on("tokens", blocks.transformer_encoder(heads=3)),
        "vector": on("text", keras.layers.Dense(3)),
        "tasks": on("table", learner("mlp"), [blocks.binary("a"), blocks.regression("a")]),
        "latent": on("table", learner("mlp"), blocks.binary("latent")),
        "none": on("table", learner("mlp"), []),
        "activation": error_of(blocks.mlp, activation="rellu"),
        "joined names": error_of(
            blocks.joined, (stem("text"), learner("mlp")), (stem("table"), learner("mlp", "b"))
        ),
        "joined feature": error_of(
            blocks.joined,
            (blocks.table_stem(["payment"], name="a"), learner("mlp", "b")),
            (stem("table", "c"), learner("mlp", "d")),
        ),
    }


def test_what_does_not_fit_together_is_said():
    found = forked(misfits)
    assert found["image"] == (
        "ValueError: blocks.residual_groups: works on an image [batch, height, width, channels]. "
        "Received: ['batch', 26]. Put it on image_stem, or take another learner."
    )
    assert (
        "works on a sequence [batch, length, d]. Received: ['batch', 26]. Put it on text_stem"
        in found["sequence"]
    )
    assert "heads (3) must divide d. Received: 16. Choose another width" in found["heads"]
    assert "must give a vector [batch, d]. Received: ['batch', 16, 3]" in found["vector"]
    assert (
        "names of tasks and `latent` must be" in found["tasks"]
        and "all different" in found["latent"]
    )
    assert "tasks must be one or more" in found["none"]
    assert "blocks.mlp: activation must name one of Keras's activations" in found["activation"]
    assert "names of the branches' layers must be" in found["joined names"]
    assert "must read `payment` in one way" in found["joined feature"]
