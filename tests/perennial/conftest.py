"""Databases for the ledger: SQLite always, PostgreSQL where its programs are installed."""

from __future__ import annotations

import shutil

import pytest

from perennial.registry import Registry
from tests.perennial.folders import make_project
from tests.perennial.postgres import find_binaries, serve


@pytest.fixture(scope="session")
def postgres():
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's programs are not installed: sudo sh tools/system-packages.sh")
    with serve(binaries) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request, tmp_path):
    """SQLAlchemy URL of a database that holds nothing yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture(scope="session")
def blank_registry(tmp_path_factory):
    """An MLflow database without a model: making one takes seconds, copying it nothing."""
    project = make_project(tmp_path_factory.mktemp("registry") / "digits")
    Registry(project).versions()
    return project.state / "registry.db"


@pytest.fixture
def project(tmp_path, blank_registry):
    """The digits project with an empty registry."""
    project = make_project(tmp_path / "digits")
    project.state.mkdir()
    shutil.copy(blank_registry, project.state / "registry.db")
    return project
