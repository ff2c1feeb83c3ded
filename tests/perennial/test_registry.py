"""The registry: a version is whole, has its lineage, exists once for the same bytes, and is verified when fetched."""

from __future__ import annotations

import pytest

from perennial.digests import digest_folder
from perennial.errors import IntegrityError, RegistryError
from perennial.registry import CHAMPION_ALIAS, Registry
from tests.perennial.folders import make_model


@pytest.fixture
def registry(project):
    return Registry(project)


@pytest.fixture
def version(registry, tmp_path):
    return registry.register(make_model(tmp_path / "a", "a"))


def test_versions_count_up_and_keep_their_bytes(registry, tmp_path):
    models = [make_model(tmp_path / name, name) for name in "abc"]
    versions = [registry.register(model) for model in models]
    assert [v.version for v in versions] == ["1", "2", "3"] and registry.versions() == versions
    assert [digest_folder(registry.fetch(v)) for v in versions] == [model.digest for model in models]


def test_the_same_bytes_are_one_version(registry, version, tmp_path):
    again = registry.register(make_model(tmp_path / "copy", "a"))
    assert again == version and registry.versions() == [version]


def test_lineage_and_digest_stand_on_the_version(registry, version):
    lineage = registry.lineage(version.version)
    assert lineage == {"digest": version.digest, "run": "run-a", "spans": "2026-01-01@1"}


def test_metrics_curves_and_parameters_stand_on_the_run(registry, version):
    run = registry._client.get_run(version.mlflow_run)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"test_accuracy": 0.9, "eval_loss": 1.0} and run.data.params == {"batch_size": "32"}
    assert [m.value for m in registry._client.get_metric_history(version.mlflow_run, "eval_loss")] == [2.0, 1.0]


def test_model_with_other_bytes_than_were_evaluated_is_refused(registry, tmp_path):
    model = make_model(tmp_path / "a", "a")
    (model.saved_model / "variables" / "variables.index").write_text("other weights")
    with pytest.raises(IntegrityError, match=model.digest):
        registry.register(model)
    assert registry.versions() == []


def test_what_is_no_saved_model_is_refused(registry, tmp_path):
    model = make_model(tmp_path / "a", "a")
    (model.saved_model / "saved_model.pb").unlink()
    with pytest.raises(IntegrityError, match="must be a SavedModel"):
        registry.register(model)
    assert registry.versions() == []


def test_version_that_does_not_exist(registry, version):
    with pytest.raises(RegistryError, match=r"version 7 of digits must be in the registry. Received: it has 1"):
        registry.version("7")


def test_a_registration_that_was_cut_short_is_completed(registry, tmp_path, monkeypatch):
    model = make_model(tmp_path / "a", "a")
    _fail_once(monkeypatch, registry._client, "create_model_version")
    with pytest.raises(ConnectionError):
        registry.register(model)
    assert registry.versions() == []
    assert registry.register(model).version == "1"
    assert len(registry.versions()) == 1 and digest_folder(registry.fetch(registry.version("1"))) == model.digest


def _fail_once(monkeypatch, client, name):
    original = getattr(client, name)

    def broken(*_, **__):
        monkeypatch.setattr(client, name, original)
        raise ConnectionError("cut short")

    monkeypatch.setattr(client, name, broken)


def test_local_copy_that_was_damaged_is_fetched_again(registry, version):
    local = registry.fetch(version)
    for damage in (lambda: (local / "saved_model.pb").write_text("damaged"), (local / "saved_model.pb").unlink):
        damage()
        assert digest_folder(registry.fetch(version)) == version.digest


def test_local_copy_without_any_file_is_fetched_again(registry, version):
    local = registry.fetch(version)
    for path in sorted(local.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert digest_folder(registry.fetch(version)) == version.digest


def test_registry_files_that_were_damaged_are_refused_and_not_kept(registry, version, project):
    next((project.state / "registry").rglob("variables.index")).write_text("damaged")
    with pytest.raises(IntegrityError, match=version.digest):
        registry.fetch(version)
    assert list((project.state / "models").glob("*")) == []


def test_registry_files_that_are_gone(registry, version, project):
    for path in (project.state / "registry").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises((RegistryError, IntegrityError)) as refused:
        registry.fetch(version)
    assert "Received: " in str(refused.value)
    assert not (project.state / "models" / version.digest).exists()


def test_registry_folder_that_is_gone(registry, version, project):
    (project.state / "registry").rename(project.state / "elsewhere")
    with pytest.raises(RegistryError, match="files of version 1 must be in the registry"):
        registry.fetch(version)


def test_champion_alias_follows(registry, version, tmp_path):
    second = registry.register(make_model(tmp_path / "b", "b"))
    for number in (version.version, second.version, version.version):
        registry.mark_champion(number)
        assert str(registry._client.get_model_version_by_alias("digits", CHAMPION_ALIAS).version) == number


def test_database_that_is_garbage(project):
    (project.state / "registry.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(RegistryError, match=r"registry.*Received: .*not a database"):
        Registry(project).versions()
