"""How property tests draw, what a session shares, and the order of the files."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests import s3 as s3_server
from tests.budget import Budget
from tests.perennial.postgres import Postgres, find_binaries, start
from tests.s3 import S3
from tests.session import FOLDER, close_session, make_once, open_session, serve_once

# The same examples in every run, so that a red build is the fault of a change; without a deadline,
# since the first example may import libraries from a cold disk.
settings.register_profile("steady", derandomize=True, deadline=None)
# Other examples each time, and more: `make test ARGS="--hypothesis-profile=hunt"`.
settings.register_profile("hunt", max_examples=1000, deadline=None)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Has the files ordered and their seconds added up."""
    config.pluginmanager.register(Budget(), "budget")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Makes the folder of the session, before its workers start."""
    if FOLDER not in os.environ:
        open_session()
        session.config.add_cleanup(close_session)


@pytest.fixture(scope="session")
def postgres() -> Postgres:
    """The session's PostgreSQL server, where its programs are installed."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's programs are not installed: sudo sh tools/system-packages.sh")
    return Postgres(serve_once("postgres", lambda _: start(binaries)))


@pytest.fixture(scope="session")
def s3() -> S3:
    """The session's S3 server."""
    return S3(serve_once("s3", s3_server.start))


@pytest.fixture(scope="session")
def chain():
    """What the steps made of two days of digits. Read it, never change it."""
    from tests.chain import Chain, run_chain
    from tests.forked import forked

    return Chain(make_once("chain", lambda folder: forked(run_chain, folder)))


@pytest.fixture
def chain_project(chain, tmp_path):
    """The chain's project in a folder of the test.

    An empty ledger, an empty registry, two landed days.
    """
    from tests.chain import copy_project

    return copy_project(chain, tmp_path / "digits")


@pytest.fixture(scope="session")
def leaking():
    """A candidate that learned what it must not. Read it, never change it."""
    from tests.forked import forked
    from tests.leaking import Leaking, run_leaking

    return Leaking(make_once("leaking", lambda folder: forked(run_leaking, folder)))


@pytest.fixture(scope="session")
def kinds():
    """Kind -> what the steps made of it. Read it, never change it."""
    from tests.forked import forked
    from tests.kinds import KINDS, Kind, run_kinds

    folder = make_once("kinds", lambda folder: forked(run_kinds, folder))
    return {kind: Kind(folder / kind) for kind in KINDS}
