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


PORTABLE = ["--job_endpoint=host:8099"]
ELSEWHERE = {
    "portable": {"runner": "PortableRunner", "options": PORTABLE},
    "containers": {"runner": "FlinkRunner", "options": ["--environment_type=DOCKER"]},
    "Dataflow": {
        "runner": "DataflowRunner",
        "options": ["--project=p", "--region", "r", "--temp_location=gs://b/t"],
    },
}
HERE = {
    "none": {"options": []},
    "processes": {"options": ["--direct_running_mode=multi_processing"]},
    "called back": {"runner": "SparkRunner", "options": ["--environment_type=LOOPBACK"]},
}


@pytest.mark.parametrize("beam", ELSEWHERE.values(), ids=ELSEWHERE)
def test_workers_elsewhere_need_a_root_and_spans_that_they_reach(tmp_path, monkeypatch, beam):
    for variable, value in SERVERS.items():
        monkeypatch.setenv(variable, value)
    for number, root in enumerate((None, "/mnt/shared", "file:///mnt/shared")):
        project = make_project(tmp_path / f"{number}", beam=beam, root=root)
        with pytest.raises(ProjectError, match=rf"root must be a URL .* {beam['runner']} reach"):
            check_project(project)
    remote = make_project(tmp_path / "remote", beam=beam, root="s3://bucket/path")
    with pytest.raises(ProjectError, match=r"data\.spans must be a URL .*Received: data/"):
        check_project(remote)
    spans = {"spans": "s3://bucket/landed/{SPAN}.csv"}
    check_project(make_project(tmp_path / "s", beam=beam, root="s3://bucket/path", data=spans))


@pytest.mark.parametrize("beam", HERE.values(), ids=HERE)
def test_workers_on_this_machine_use_its_files(tmp_path, beam):
    check_project(make_project(tmp_path / "project", beam=beam))


@pytest.mark.parametrize(
    "beam, message",
    [
        ({"options": ["--runner=FlinkRunner"]}, "must not name the runner.*beam.runner"),
        ({"options": ["--flink_mastre=a"]}, "Received: --flink_mastre. Write --flink_master"),
        ({"options": ["--direct_num_workers=many"]}, "direct_num_workers: invalid int value"),
        ({"options": ["--direct_num_workers=2", "stray"]}, "Received: stray. Write --name=value"),
        ({"runner": "PortableRunner"}, "must have --job_endpoint, which PortableRunner needs"),
        ({"runner": "DataflowRunner", "options": []}, "must have --project"),
        ({"runner": "FlinkRunner", "options": ["--flink_version=0.1"]}, "invalid choice: '0.1'"),
    ],
)
def test_options_are_those_of_beam(tmp_path, beam, message):
    with pytest.raises(ProjectError, match=message):
        check_project(make_project(tmp_path / "project", beam=beam))
