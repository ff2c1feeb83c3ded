"""The project that the chain of steps ran on."""

from __future__ import annotations

import pytest

from tests.chain import copy_project


@pytest.fixture
def project(chain, tmp_path):
    """The chain's project in a folder of the test.

    An empty ledger, an empty registry, two landed days.
    """
    return copy_project(chain, tmp_path / "digits")
