"""The registry.

A version is whole, has its lineage, exists once for the same bytes, and is verified when fetched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perennial.errors import IntegrityError, RegistryError
from perennial.registry.mlflow_runs import DIGEST_TAG, TrainedInstance
from perennial.registry.versions import Registry
from perennial.storage.digests import digest_folder
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
    assert [digest_folder(registry.fetch(v)) for v in versions] == [
        model.digest for model in models
    ]


def test_the_same_bytes_are_one_version(registry, version, tmp_path):
    again = registry.register(make_model(tmp_path / "copy", "a"))
    assert again == version and registry.versions() == [version]


def test_lineage_and_digest_stand_on_the_version(registry, version):
    lineage = registry.lineage(version.version)
    assert lineage == {"digest": version.digest, "run": "run-a", "spans": "2026-01-01@1"}


def test_metrics_curves_and_parameters_stand_on_the_run(registry, version):
    run = registry._client.get_run(version.mlflow_run)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"test_accuracy": 0.9, "eval_loss": 1.0} and run.data.params == {
        "batch_size": "32"
    }
    assert [
        m.value for m in registry._client.get_metric_history(version.mlflow_run, "eval_loss")
    ] == [2.0, 1.0]


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
    with pytest.raises(
        RegistryError, match=r"version 7 of digits must be in the registry. Received: it has 1"
    ):
        registry.version("7")


def test_a_registration_that_was_cut_short_is_completed(registry, tmp_path, monkeypatch):
    model = make_model(tmp_path / "a", "a")
    _fail_once(monkeypatch, registry._client, "create_model_version")
    with pytest.raises(ConnectionError):
        registry.register(model)
    assert registry.versions() == []
    assert registry.register(model).version == "1"
    assert (
        len(registry.versions()) == 1
        and digest_folder(registry.fetch(registry.version("1"))) == model.digest
    )


def _fail_once(monkeypatch, client, name):
    original = getattr(client, name)

    def broken(*_, **__):
        monkeypatch.setattr(client, name, original)
        raise ConnectionError("cut short")

    monkeypatch.setattr(client, name, broken)


def test_local_copy_that_was_damaged_is_fetched_again(registry, version):
    local = registry.fetch(version)
    for damage in (
        lambda: (local / "saved_model.pb").write_text("damaged"),
        (local / "saved_model.pb").unlink,
    ):
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


def test_aliases_follow_the_champion(registry, version, tmp_path):
    assert registry.aliases() == {} and registry.set_aliases(None)
    assert registry.aliases() == {"challenger": "1"}
    assert registry.set_aliases("1") and registry.aliases() == {"champion": "1"}
    registry.register(make_model(tmp_path / "b", "b"))
    assert registry.set_aliases("1") and registry.aliases() == {"champion": "1", "challenger": "2"}
    assert not registry.set_aliases("1")
    assert registry.set_aliases("2") and registry.aliases() == {"champion": "2"}
    assert registry.set_aliases("1") and registry.aliases() == {"champion": "1", "challenger": "2"}


def test_aliases_of_a_registry_without_the_model(registry):
    assert not registry.set_aliases(None) and registry.aliases() == {}


def test_files_of_elsewhere_are_refused(registry, version, tmp_path):
    """Whoever can write to the database can point a version at anything.

    The bytes may even be the right ones.
    """
    elsewhere = make_model(tmp_path / "b", "b")
    other = registry.register(make_model(tmp_path / "c", "c"))
    for source, run in (
        (str(elsewhere.saved_model), version.mlflow_run),
        (other.source, version.mlflow_run),
    ):
        tags = {DIGEST_TAG: digest_folder(Path(source.removeprefix("file://")))}
        made = registry._client.create_model_version("digits", source=source, run_id=run, tags=tags)
        foreign = registry.version(str(made.version))
        with pytest.raises(
            IntegrityError,
            match=f"version {made.version} of digits must hold files of its own MLflow",
        ):
            registry.fetch(foreign)
    with pytest.raises(IntegrityError, match="must hold files of its own MLflow run"):
        registry.register(elsewhere)  # the version that has its bytes is the foreign one


def test_a_version_without_a_run_is_refused(registry, version):
    made = registry._client.create_model_version(
        "digits", source=version.source, tags={DIGEST_TAG: version.digest}
    )
    with pytest.raises(IntegrityError, match="must hold files of its own MLflow run"):
        registry.fetch(registry.version(str(made.version)))


def test_a_pickle_beside_the_model_is_refused(registry, tmp_path):
    model = make_model(tmp_path / "a", "a")
    (model.saved_model / "encoder.pkl").write_bytes(b"")
    model = replace(model, digest=digest_folder(model.saved_model))
    with pytest.raises(IntegrityError, match=r"encoder\.pkl: a pickle"):
        registry.register(model)
    assert registry.versions() == []


def test_a_pickle_that_someone_put_beside_a_registered_model_is_refused(registry, version, project):
    stored = next((project.state / "registry").rglob("saved_model.pb")).parent
    (stored / "assets").mkdir()
    (stored / "assets" / "words").write_bytes(b"\x80\x04N.")
    with pytest.raises(IntegrityError, match="assets/words: a pickle"):
        registry.fetch(version)


def test_long_curves_and_many_parameters(registry, tmp_path):
    curve = [float(value) for value in range(2500)]
    parameters = {f"model.{number}": number for number in range(250)}
    model = replace(
        make_model(tmp_path / "a", "a"), curves={"eval_loss": curve}, parameters=parameters
    )
    story = registry.story(registry.register(model))
    assert story.parameters == {name: str(value) for name, value in parameters.items()}
    assert story.metrics["eval_loss"] == 2499
    (version,) = registry.versions()
    assert len(registry._client.get_metric_history(version.mlflow_run, "eval_loss")) == 2500


def test_documents_and_other_instances(registry, tmp_path):
    other = TrainedInstance(
        "instance-2", "e" * 64, {"seed": 2}, {"test_accuracy": 0.8}, {"eval_loss": [3.0]}
    )
    documents = {"decision.json": '{"promote": "ŁódŹ"}'}
    model = replace(
        make_model(tmp_path / "a", "a"), instance="instance-1", documents=documents, others=[other]
    )
    version = registry.register(model)
    assert registry.document(version, "decision.json") == documents["decision.json"]
    assert registry.document(version, "probing.json") is None
    (found,) = registry._runs._search("tags.`perennial.instance` = 'instance-2'")
    assert found.data.params == {"seed": "2"} and found.data.metrics == {
        "test_accuracy": 0.8,
        "eval_loss": 3.0,
    }
    assert (found.data.tags["perennial.judged"], found.data.tags["perennial.run"]) == (
        "false",
        "run-a",
    )
    judged = registry._client.get_run(version.mlflow_run).data.tags
    assert (judged["perennial.judged"], judged["perennial.instance"]) == ("true", "instance-1")


def test_database_that_is_garbage(project):
    (project.state / "registry.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(RegistryError, match=r"registry.*Received: .*not a database"):
        Registry(project).versions()
