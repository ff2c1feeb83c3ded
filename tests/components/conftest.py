"""The chain of steps, run once for all tests of components."""

from __future__ import annotations

import pytest

from tests.components.chain import Chain, copy_project, run_chain
from tests.components.forked import forked
from tests.components.kinds import KINDS, Kind, run_kinds
from tests.session import make_once


@pytest.fixture(scope="session")
def chain():
    """What the steps made of two days of digits. Read it, never change it."""
    return Chain(make_once("chain", lambda folder: forked(run_chain, folder)))


@pytest.fixture(scope="session")
def kinds():
    """Kind -> what the steps made of it. Read it, never change it."""
    folder = make_once("kinds", lambda folder: forked(run_kinds, folder))
    return {kind: Kind(folder / kind) for kind in KINDS}


@pytest.fixture
def project(chain, tmp_path):
    """The chain's project in a folder of the test: an empty ledger, an empty registry, two landed days."""
    return copy_project(chain, tmp_path / "digits")
