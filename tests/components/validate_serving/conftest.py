"""Models of every kind."""

from __future__ import annotations

import pytest

from tests.components.kinds import make_kinds


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """Kind -> what the steps made of it. Read it, never change it."""
    return make_kinds(tmp_path_factory)
