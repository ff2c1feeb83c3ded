"""What the steps import of the libraries that they use."""

from __future__ import annotations

import pytest

from perennial.runner.warm_imports import LAZY, REFUSED
from tests.runner.test_warm_imports import NOT_NEEDED

UNUSED = LAZY | REFUSED | {*NOT_NEEDED, "tensorflow_model_analysis"}


@pytest.mark.parametrize("name", sorted(UNUSED))
def test_no_step_loads_what_none_uses(chain, name):
    """Libraries look through all modules, and what is lazy must not load when it is looked at."""
    loaded = (chain.folder / "loaded.txt").read_text().split("\n")
    assert {"tensorflow", "apache_beam", "great_expectations"} <= set(loaded)
    assert name not in loaded
