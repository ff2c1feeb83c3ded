"""The two halves of a SavedModel.

They come back from the disk, and gradients and words pass through them.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.forked import forked
from tests.perennial.export.gradient_jobs import save_halves


def test_halves_come_back_with_their_gradients(tmp_path):
    found = forked(save_halves, tmp_path, False)
    np.testing.assert_array_equal(found["features"]["size"], [2, 4, 6])
    np.testing.assert_array_equal(found["outputs"], [4, 26, 36])
    assert found["occluded"] == ["words"]
    # The square of the distance from the mean size, 4; the word that is not the commonest one adds
    # 10.
    np.testing.assert_allclose(found["size"], [4 - 16, 0, 36 - 16], atol=1e-4)
    assert found["words"].reshape(-1) == pytest.approx([0, 10, 0])


def test_model_of_a_sparse_feature_has_no_halves(tmp_path):
    assert forked(save_halves, tmp_path, True) is None
