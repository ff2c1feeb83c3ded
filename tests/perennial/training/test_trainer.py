"""The training loop: the same numbers whatever the device, the call or the break."""

import numpy as np
import pytest

from tests.chain import copy_project
from tests.forked import forked
from tests.perennial.training import jobs


@pytest.fixture
def steady(chain, chain_project):
    """The project without dropout, whose random numbers differ between replicas."""
    return jobs.changed(chain_project, *jobs.DROPOUT)


@pytest.fixture(scope="module")
def plain(chain, tmp_path_factory):
    """How the steady project trains on one device with the usual settings."""
    project = copy_project(chain, tmp_path_factory.mktemp("plain") / "digits")
    return forked(jobs.losses, jobs.changed(project, *jobs.DROPOUT), chain.features, {})


def test_one_call_of_many_steps_computes_what_many_calls_do(chain, chain_project):
    one, many = (
        forked(jobs.losses, chain_project, chain.features, {"steps_per_execution": steps})
        for steps in (1, 16)
    )
    assert one == many


@pytest.mark.parametrize(("train", "devices"), [({"strategy": "mirrored"}, 2), ({"xla": True}, 1)])
def test_replicas_and_xla_compute_the_same(chain, steady, plain, train, devices):
    found = forked(jobs.losses, steady, chain.features, train, devices)
    assert found["replicas"] == devices
    assert np.allclose(plain["losses"], found["losses"], rtol=1e-4)
    assert np.allclose(plain["norms"], found["norms"], rtol=1e-3)
    assert found["measured"].loss == pytest.approx(plain["measured"].loss, rel=1e-3)


def test_clipping_is_of_the_gradient_of_all_replicas(chain, steady, plain):
    one = forked(jobs.clipped, steady, chain.features, {})
    two = forked(jobs.clipped, steady, chain.features, {"strategy": "mirrored"}, 2)
    assert two["replicas"] == 2
    assert min(one["norms"]) > 0.05
    assert not np.allclose(plain["losses"], one["losses"], rtol=1e-4)
    assert np.allclose(one["losses"], two["losses"], rtol=1e-4)
    assert np.allclose(one["norms"], two["norms"], rtol=1e-3)


HIDDEN = 'keras.layers.Dense(64, activation="relu")(x)'
OWN_LOSSES = {
    "a regulariser": HIDDEN.replace("64,", "64, kernel_regularizer=keras.regularizers.L2(1.0),"),
    "add_loss": "Penalised(64)(x)",
}
PENALISED = """\
import keras


class Penalised(keras.layers.Dense):
    def call(self, inputs):
        self.add_loss(keras.ops.sum(keras.ops.square(self.kernel)))
        return keras.ops.relu(super().call(inputs))
"""


@pytest.mark.parametrize("own", OWN_LOSSES)
def test_losses_that_layers_bring_are_trained_on(chain, steady, plain, own):
    """The penalty of the weights is in the gradient; the loss that is told is the task's alone."""
    jobs.changed(steady, "import keras\n", PENALISED)
    project = jobs.changed(steady, HIDDEN, OWN_LOSSES[own])
    found = forked(jobs.losses, project, chain.features, {})
    assert found["losses"][0] == pytest.approx(plain["losses"][0], rel=1e-4)
    assert found["norms"][0] > 2 * plain["norms"][0]
    assert found["losses"][-1] > plain["losses"][-1]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_about_as_well(chain, steady, plain, precision):
    found = forked(jobs.losses, steady, chain.features, {"precision": precision})
    assert found["losses"] != plain["losses"]
    assert np.allclose(plain["losses"], found["losses"], atol=0.15)
    # Norms of the scaled loss are told unscaled; those of a step that overflowed, and is left out,
    # are infinite.
    finite = np.isfinite(found["norms"])
    assert finite.mean() > 0.7
    assert np.allclose(np.array(plain["norms"])[finite], np.array(found["norms"])[finite], rtol=0.5)
    assert found["losses"][-1] < found["losses"][0]


def test_a_restored_state_goes_on_as_without_a_break(chain, chain_project):
    unbroken, again, message = forked(jobs.resumed, chain_project, chain.features)
    assert unbroken == pytest.approx(again, rel=1e-6)
    assert "checkpoint must be of the same architecture" in message
    assert "dense/kernel is [3, 64] there and" in message and "Remove the checkpoint" in message


def test_class_weights_count_in_the_loss(chain, chain_project):
    plain, only = forked(jobs.weighted, chain_project, chain.features)
    assert only != pytest.approx(plain, rel=1e-3)
    assert 0 <= only < 10 * plain


def test_a_device_that_is_not_there_is_told(chain_project):
    found = forked(jobs.device_errors, chain_project)
    assert (
        found["gpu"].startswith("project.yaml: train.device gpu must be there")
        and "Set it to any" in found["gpu"]
    )
    for name in ("tpu", "named"):
        assert found[name].startswith("project.yaml: train.strategy tpu must find a TPU")
        assert "choose one_device, mirrored or multi_worker" in found[name]
    assert "'my-tpu'" in found["named"]
    assert "TF_CONFIG" in found["alone"] and "Start this process as a worker" in found["alone"]
    assert found["cluster"].startswith("environment: TF_CONFIG must be JSON")


def test_a_feature_that_the_model_does_not_read_changes_nothing(chain, chain_project):
    alone, beside = forked(jobs.unread_feature, chain_project, chain.features)
    assert alone == beside
