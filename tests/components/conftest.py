"""The chain of steps, run once for all tests of components."""

from __future__ import annotations

import pytest

from tests.components.chain import Chain, copy_project, run_chain
from tests.components.forked import forked
from tests.components.kinds import KINDS, Kind, run_kinds


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """What the steps made of two days of digits. Read it, never change it."""
    folder = tmp_path_factory.mktemp("chain")
    forked(run_chain, folder)
    return Chain(folder)


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """Kind -> what the steps made of it. Read it, never change it."""
    folder = tmp_path_factory.mktemp("kinds")
    forked(run_kinds, folder)
    return {kind: Kind(folder / kind) for kind in KINDS}


@pytest.fixture
def project(chain, tmp_path):
    """The chain's project in a folder of the test: an empty ledger, an empty registry, two landed days."""
    return copy_project(chain, tmp_path / "digits")
