"""Modules of TFX's own examples, unmodified: they end in logits, which are served as probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from tests.forked import forked
from tests.perennial.tfx_module.example_jobs import train_digits, train_penguins


@pytest.mark.parametrize("train", [train_penguins, train_digits])
def test_an_example_that_ends_in_logits_is_served_with_a_softmax(train, tmp_path):
    trained = forked(train, tmp_path)
    probabilities = trained["probabilities"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert (probabilities >= 0).all()
    assert (trained["class"] == trained["truth"]).mean() > 0.7
    (note,) = trained["notes"]
    assert "gives logits (values from -" in note and "softmax" in note
