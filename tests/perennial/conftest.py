"""Databases for the ledger: SQLite always, PostgreSQL where its programs are installed."""

from __future__ import annotations

import secrets
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


@pytest.fixture(scope="session")
def mlflow_server(postgres, tmp_path_factory):
    """Address of a real MLflow server on PostgreSQL; a project of its own name has it to itself."""
    from tests.perennial.mlflow_server import serve as serve_mlflow

    with serve_mlflow(postgres.new_database(), tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def server_project(mlflow_server, postgres, tmp_path):
    """The digits project with its registry on the server and its ledger on PostgreSQL."""
    name, ledger = f"digits-{secrets.token_hex(4)}", {"url": postgres.new_database()}
    return make_project(tmp_path / "digits", name=name, registry={"uri": mlflow_server}, ledger=ledger)
