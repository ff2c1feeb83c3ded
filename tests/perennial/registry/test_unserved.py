"""Models that never served go, with their artifacts; what served, or is about to, stays.

On the embedded registry and on MLflow's own server.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import list_artifacts
from mlflow.exceptions import MlflowException

from perennial.errors import RegistryError
from perennial.ledger.events import Ledger
from perennial.ledger.lease import hold_lease
from perennial.registry.deployments import promote_version, roll_back
from perennial.registry.unserved import find_unserved, remove_unserved
from perennial.registry.versions import Registry
from perennial.storage.digests import digest_folder
from tests.perennial.judged import judged, whole_run

pytestmark = pytest.mark.timeout(400)
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(params=["sqlite", "server"])
def of_registry(request):
    """A project whose registry is a file of SQLite, or a server."""
    return request.getfixturevalue("project" if request.param == "sqlite" else "server_project")


@pytest.fixture
def ledger(of_registry):
    ledger = Ledger(of_registry.ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def six_runs(of_registry):
    """Versions 2, 4 and 6 were kept; 1, 3 and 5 served, and 5 serves."""
    return [
        whole_run(of_registry, f"run-{number}", f"model {number}", promote=number % 2 == 1)
        for number in range(1, 7)
    ]


def numbers(models):
    return [model.version.version if model.version else None for model in models]


def remove_all(project, ledger):
    return [
        remove_unserved(project, ledger, model) for model in find_unserved(project, ledger, LATER)
    ]


def test_they_go_with_their_artifacts_and_the_others_stay(of_registry, ledger, six_runs):
    models = find_unserved(of_registry, ledger, LATER)
    assert find_unserved(of_registry, ledger, LATER - timedelta(days=2)) == []
    assert numbers(models) == ["2", "4"]  # 6 is the newest, which the alias names
    registry = Registry(of_registry)
    for model in models:
        files = [file for file in registry.fetch(model.version).rglob("*") if file.is_file()]
        assert model.size > sum(file.stat().st_size for file in files)  # its judgement, too
        artifacts = model.version.source.removesuffix("/model")
        client = MlflowClient(registry.uri, registry.uri)
        assert remove_unserved(of_registry, ledger, model)
        assert client.get_run(model.candidate.run_id).info.lifecycle_stage == "deleted"
        with pytest.raises(RegistryError):
            registry.version(model.version.version)
        with suppress(MlflowException, OSError):  # the folder may be gone, too
            assert not list_artifacts(artifacts, tracking_uri=registry.uri)
    assert [version.version for version in registry.versions()] == ["1", "3", "5", "6"]
    for version in (six_runs[0], six_runs[2], six_runs[4]):
        assert digest_folder(registry.fetch(version)) == version.digest
    assert registry.aliases() == {"champion": "5", "challenger": "6"}
    assert roll_back(of_registry, "a test").version == "3"
    assert whole_run(of_registry, "run-7", "model 2").version == "7"


def test_what_a_person_promotes_meanwhile_stays(project):
    for number in (1, 2, 3):
        whole_run(project, f"run-{number}", f"model {number}", promote=number == 1)
    ledger = Ledger(project.ledger_url)
    (model,) = find_unserved(project, ledger, LATER)
    promote_version(project, "2", "it is wanted after all")
    assert not remove_unserved(project, ledger, model)
    assert Path(Registry(project).fetch(model.version)).is_dir()


def test_what_the_run_that_goes_on_registered_stays(project):
    for number in (1, 2, 3):
        whole_run(project, f"run-{number}", f"model {number}", promote=number == 1)
    ledger = Ledger(project.ledger_url)
    with hold_lease(ledger, "digits", "run-2", 600):
        assert find_unserved(project, ledger, LATER) == []
    assert numbers(find_unserved(project, ledger, LATER)) == ["2"]


def test_what_a_run_registered_that_was_cut_short_stays(project):
    whole_run(project, "run-1", "model 1")
    judged(project, "run-2", "model 2").register(project)
    ledger = Ledger(project.ledger_url)
    Registry(project).register(_other(project.folder.parent))  # the newest is another one
    assert find_unserved(project, ledger, LATER) == []


def test_a_removal_that_was_cut_short_goes_on(project, monkeypatch):
    for number in (1, 2, 3):
        whole_run(project, f"run-{number}", f"model {number}", promote=number == 1)
    ledger, delete = Ledger(project.ledger_url), MlflowClient.delete_run

    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "delete_run", cut)
    with pytest.raises(KeyboardInterrupt):
        remove_all(project, ledger)
    monkeypatch.setattr(MlflowClient, "delete_run", delete)
    assert numbers(find_unserved(project, ledger, LATER)) == [None]
    assert remove_all(project, ledger) == [True]
    assert find_unserved(project, ledger, LATER) == []


def test_without_a_registry_none_is_made(tmp_path):
    from tests.perennial.folders import make_project

    project = make_project(tmp_path / "digits")
    assert find_unserved(project, Ledger(project.ledger_url), LATER) == []
    assert not (project.state / "registry.db").exists()


def _other(folder: Path):
    from tests.perennial.folders import make_model

    return make_model(folder / "other", "other")
