"""Where results, the ledger and the registry lie: from the settings, or from the environment."""

from __future__ import annotations

import pytest
import yaml

from perennial.errors import ProjectError
from perennial.project import load_project
from perennial.runner.project_checks import check_project
from tests.perennial.folders import make_project

SERVERS = {
    "PERENNIAL_LEDGER_URL": "postgresql+psycopg://host/ledger",
    "PERENNIAL_REGISTRY_URI": "http://registry:5000",
}


def test_results_lie_in_the_state_folder_or_where_the_settings_say(tmp_path):
    project = make_project(tmp_path / "project")
    assert project.root == str(project.state)
    kept = make_project(tmp_path / "other", root="kept")
    assert kept.root == str(tmp_path / "other" / "kept" / kept.settings.name)
    remote = make_project(tmp_path / "remote", root="s3://b/c/")
    assert remote.root == f"s3://b/c/{remote.settings.name}"


def test_the_environment_comes_before_the_settings(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "project", root="s3://a/b").folder
    monkeypatch.setenv("PERENNIAL_ROOT", "gs://other/place")
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)
    project = load_project(folder)
    assert project.root == f"gs://other/place/{project.settings.name}"
    assert project.ledger_url == SERVERS["PERENNIAL_LEDGER_URL"]
    assert project.settings.registry.uri == SERVERS["PERENNIAL_REGISTRY_URI"]


def test_the_database_of_a_table_comes_from_the_environment(tmp_path, monkeypatch):
    project = make_project(tmp_path / "project")
    settings = yaml.safe_load((project.folder / "project.yaml").read_text())
    settings["data"].pop("spans")
    settings["data"]["table"] = {"table": "trips", "span": "day"}
    (project.folder / "project.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ProjectError, match=r"data\.table\.url must be set"):
        load_project(project.folder)
    monkeypatch.setenv("PERENNIAL_TABLE_URL", "postgresql+psycopg://host/trips")
    assert load_project(project.folder).settings.data.table.url.endswith("/trips")


def test_a_root_that_others_reach_needs_a_ledger_and_a_registry_that_they_reach(
    tmp_path, monkeypatch
):
    folder = make_project(tmp_path / "project", root="s3://user:secret@bucket/path").folder
    for variable, setting in zip(SERVERS, ("ledger.url", "registry.uri"), strict=True):
        with pytest.raises(ProjectError) as raised:
            check_project(load_project(folder))
        assert setting in raised.value.where and variable in raised.value.remedy
        assert "secret" not in str(raised.value)
        monkeypatch.setenv(variable, SERVERS[variable])
    check_project(load_project(folder))


BEAM = {
    "Dataflow": (["--runner=DataflowRunner"], "DataflowRunner"),
    "two words": (["--runner", "FlinkRunner"], "FlinkRunner"),
    "its class": (["--runner=apache_beam.runners.portability.spark_runner.SparkRunner"], "Spark"),
    "portable": (["--runner=PortableRunner", "--environment_type=DOCKER"], "PortableRunner"),
    "nothing": (["--runner"], "no name"),
    "none": ([], None),
    "direct": (["--runner=directrunner", "--direct_running_mode=multi_processing"], None),
    "called back": (["--runner=PortableRunner", "--environment_type=LOOPBACK"], None),
}


@pytest.mark.parametrize("remote", [False, True])
def test_beam_stays_on_this_machine_whose_files_it_is_given(tmp_path, monkeypatch, remote):
    for variable, value in SERVERS.items() if remote else ():
        monkeypatch.setenv(variable, value)
    root = {"root": "s3://bucket/path"} if remote else {}
    for case, (options, received) in BEAM.items():
        project = make_project(tmp_path / case, beam={"options": options}, **root)
        if received is None:
            check_project(project)
            continue
        with pytest.raises(ProjectError, match=rf"must keep Beam on this machine.*{received}"):
            check_project(project)
