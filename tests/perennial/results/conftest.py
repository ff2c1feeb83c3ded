"""Fixtures that tests of results in a root share."""

from __future__ import annotations

import pytest

from perennial.results.store import Results


@pytest.fixture
def results(root, tmp_path) -> Results:
    return Results(root, tmp_path / "local")
