"""The blocks learn from real data: digits, taxi trips, sentences.

Alone, with several tasks, and on two replicas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perennial import blocks
from perennial.tasks import Task
from tests.forked import forked
from tests.perennial.blocks.jobs import (
    DIGIT,
    LENGTH,
    TABLE,
    TAXI_TASKS,
    VOCABULARY,
    accuracy,
    digits,
    digits_model,
    part,
    sentences,
    train,
    trips,
)
from tests.perennial.folders import TAXI

BACKWARDS = (Task("prediction", "binary", "backwards"),)
needs_taxi = pytest.mark.skipif(not TAXI.exists(), reason=f"the taxi trips are not there: {TAXI}")


def learn_digits(learner: str) -> tuple[list[float], float]:
    import keras

    keras.utils.set_random_seed(1)
    features, labels = digits()
    model = digits_model(blocks.mlp() if learner == "mlp" else None)
    losses = train(model, part(features, 0, 1200), part(labels, 0, 1200), DIGIT, epochs=3)
    return losses, accuracy(model, part(features, 1200), part(labels, 1200))


@pytest.mark.parametrize("learner", ["mlp", "residual_groups"])
def test_learners_read_digits(learner):
    losses, right = forked(learn_digits, learner)
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 2
    assert right > 0.85, "of ten classes"


def learn_trips(stem: Any, learner: Any, count: int, epochs: int) -> dict[str, float]:
    import keras

    keras.utils.set_random_seed(1)
    features, labels = trips()
    tasks = [blocks.binary("tipped"), blocks.regression("fare")]
    model = blocks.assemble(stem(**TABLE), learner(), tasks)
    losses = train(model, part(features, 0, count), part(labels, 0, count), TAXI_TASKS, epochs)
    unseen, truth = part(features, 5000), part(labels, 5000)
    fares = model(unseen, training=False)["fare"].numpy()[:, 0]
    return {
        "lower": losses[-1] / losses[0],
        "tipped": accuracy(model, unseen, truth, "tipped"),
        "mostly": float(np.mean(truth["tipped"] == 0)),
        "fare": float(np.mean(np.abs(fares - truth["fare"]))),
        "usual": float(np.mean(np.abs(np.median(truth["fare"]) - truth["fare"]))),
    }


def learn_vector() -> dict[str, float]:
    return learn_trips(blocks.table_stem, blocks.mlp, 5000, epochs=3)


def learn_tokens() -> dict[str, float]:
    return learn_trips(
        blocks.table_tokens, lambda: blocks.transformer_encoder(blocks=1), 3000, epochs=2
    )


@needs_taxi
@pytest.mark.parametrize("job", [learn_vector, learn_tokens])
def test_two_tasks_are_learnt_from_taxi_trips_at_once(job):
    found = forked(job)
    assert found["lower"] < 0.95
    assert found["tipped"] > found["mostly"] + 0.05, "better than to say that nobody tips"
    assert found["fare"] < found["usual"], "better than to say the median"


def learn_order(learner: str) -> float:
    import keras

    keras.utils.set_random_seed(1)
    features, labels = sentences()
    made = blocks.mlp() if learner == "mlp" else blocks.transformer_encoder(blocks=1)
    model = blocks.assemble(
        blocks.text_stem("words", VOCABULARY, LENGTH, width=32), made, blocks.binary()
    )
    known = len(features["words"]) * 4 // 5
    train(model, part(features, 0, known), part(labels, 0, known), BACKWARDS, epochs=4)
    return accuracy(model, part(features, known), part(labels, known))


def test_encoder_tells_sentences_from_their_reversals_and_a_bag_of_words_cannot():
    assert forked(learn_order, "encoder") > 0.66
    assert forked(learn_order, "mlp") < 0.6


def on_replicas(count: int) -> tuple[list[float], list[float]]:
    """Losses of some steps at one global batch size, and running statistics afterwards."""
    import keras
    import tensorflow as tf

    from perennial.training.losses import total_losses

    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [device] * count
    )
    names = [f"/cpu:{number}" for number in range(count)]
    strategy = (
        tf.distribute.MirroredStrategy(names)
        if count > 1
        else tf.distribute.OneDeviceStrategy(names[0])
    )
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = digits_model()
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)

    def on_replica(features: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = total_losses(DIGIT, labels, model(features, training=True))
            loss = tf.reduce_sum(losses) / (count * tf.cast(tf.shape(losses)[0], tf.float32))
        gradients = tape.gradient(
            loss, model.trainable_variables
        )  # which the optimizer sums over the replicas
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def step(features: Any, labels: Any) -> Any:
        return strategy.reduce("SUM", strategy.run(on_replica, args=(features, labels)), axis=None)

    batches = tf.data.Dataset.from_tensor_slices(digits()).take(256).batch(64)
    found = [float(step(*batch)) for batch in strategy.experimental_distribute_dataset(batches)]
    return found, model.get_layer("stem").norm.moving_mean.numpy().tolist()


def test_two_replicas_train_as_one_does():
    one, two = forked(on_replicas, 1), forked(on_replicas, 2)
    assert len(one[0]) == 4 and one[0][-1] < one[0][0]
    assert np.allclose(one[0], two[0], atol=1e-4), (
        "batch normalisation takes the global batch's statistics"
    )
    assert np.allclose(one[1], two[1], atol=1e-4)
