"""The project that the chain of steps ran on."""

from __future__ import annotations

import pytest


@pytest.fixture
def project(chain_project):
    """The chain's project in a folder of the test."""
    return chain_project
