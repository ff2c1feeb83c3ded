"""A real database server for spans that are rows of a table."""

from __future__ import annotations

import pytest

from tests.perennial.postgres import find_binaries, serve


@pytest.fixture(scope="session")
def postgres():
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's programs are not installed: sudo sh tools/system-packages.sh")
    with serve(binaries) as server:
        yield server
