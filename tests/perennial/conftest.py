"""Databases for the ledger and registries, and roots.

SQLite and folders always, servers where PostgreSQL's programs are installed.
"""

from __future__ import annotations

import secrets
import shutil

import pytest

from perennial.registry.versions import Registry
from tests.perennial.folders import make_project
from tests.perennial.registry.mlflow_server import start
from tests.session import make_once, serve_once


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request, tmp_path):
    """SQLAlchemy URL of a ledger that holds no event yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"
    return request.getfixturevalue("postgres").new_ledger()


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path, monkeypatch) -> str:
    """The location of an empty root."""
    if request.param == "folder":
        return str(tmp_path / "root")
    s3 = request.getfixturevalue("s3")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_root()


@pytest.fixture(scope="session")
def blank_registry():
    """An MLflow database without a model: making one takes seconds, copying it nothing."""
    return make_once("registry", _make_registry) / "digits" / ".perennial" / "registry.db"


def _make_registry(folder):
    Registry(make_project(folder / "digits")).versions()


@pytest.fixture
def project(tmp_path, blank_registry):
    """The digits project with an empty registry."""
    project = make_project(tmp_path / "digits")
    project.state.mkdir()
    shutil.copy(blank_registry, project.state / "registry.db")
    return project


@pytest.fixture(scope="session")
def mlflow_server(postgres):
    """A real MLflow server on PostgreSQL; a project of its own name has it to itself."""
    return serve_once("mlflow", lambda folder: start(postgres.new_database(), folder))


@pytest.fixture
def server_project(mlflow_server, postgres, tmp_path):
    """The digits project with its registry on the server and its ledger on PostgreSQL."""
    name, ledger = f"digits-{secrets.token_hex(4)}", {"url": postgres.new_ledger()}
    return make_project(
        tmp_path / "digits", name=name, registry={"uri": mlflow_server.address}, ledger=ledger
    )
