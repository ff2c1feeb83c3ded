"""Ledger and registry agree after any kill, and whoever registers or promotes at once.

Real processes, real kills.

What databases and networks could do otherwise is tried on a real MLflow server on PostgreSQL, too,
with a ledger there.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from perennial.errors import RegistryError
from perennial.ledger.events import Ledger
from perennial.registry.repair import MARK_FILE, reconcile, reconcile_or_tell
from perennial.registry.versions import Registry
from perennial.storage.digests import digest_folder
from tests.forked import forked
from tests.perennial.folders import make_project
from tests.perennial.judged import PASSED, judged, whole_run
from tests.perennial.registry import jobs
from tests.perennial.registry.jobs import killed, together

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(params=["embedded", "server"])
def anywhere(request):
    """A project with an empty registry: embedded, and on the server."""
    return request.getfixturevalue("project" if request.param == "embedded" else "server_project")


def mlflow_runs(project):
    """Name of the instance -> status, of every run that was not deleted."""
    registry = Registry(project)
    experiment = registry._client.get_experiment_by_name(registry.name)
    found = registry._client.search_runs([experiment.experiment_id])
    return [(run.data.tags["perennial.instance"], run.info.status) for run in found]


def decisions(project):
    return [
        (event.run, event.body.version) for event in Ledger(project.ledger_url).events("decision")
    ]


def test_every_instance_is_a_run_and_the_candidate_a_version(anywhere):
    version = whole_run(anywhere, "run-1", "a")
    registry = Registry(anywhere)
    assert sorted(mlflow_runs(anywhere)) == [("instance-1", "FINISHED"), ("instance-2", "FINISHED")]
    assert registry.versions() == [version] and registry.aliases() == {"champion": "1"}
    assert digest_folder(registry.fetch(version)) == version.digest
    assert registry.document(version, "decision.json") is not None and reconcile(anywhere) == []


@pytest.mark.parametrize("method", ["create_run", "log_batch", "log_artifacts", "set_terminated"])
def test_killed_before_there_is_a_version(project, method):
    ready = judged(project, "run-1", "a")
    killed(jobs.register_killed_after, project.folder, ready, method)
    assert Registry(project).versions() == [] and decisions(project) == []
    told = reconcile(project)
    assert all(status == "FINISHED" for _, status in mlflow_runs(project))
    assert told == (
        []
        if method == "set_terminated"
        else ["deleted 1 unfinished MLflow run of a registration cut short"]
    )
    assert reconcile(project) == []
    version = ready.register(project)
    assert version.version == "1" and decisions(project) == [("run-1", "1")]
    assert sorted(mlflow_runs(project)) == [("instance-1", "FINISHED"), ("instance-2", "FINISHED")]


def test_registering_again_completes_what_was_cut_short(anywhere):
    ready = judged(anywhere, "run-1", "a")
    killed(jobs.register_killed_after, anywhere.folder, ready, "log_artifacts")
    assert ready.register(anywhere).version == "1"
    assert sorted(mlflow_runs(anywhere)) == [("instance-1", "FINISHED"), ("instance-2", "FINISHED")]
    assert (
        digest_folder(Registry(anywhere).fetch(Registry(anywhere).version("1")))
        == ready.evaluation.digest
    )
    assert reconcile(anywhere) == []


@pytest.mark.parametrize("method", ["create_model_version", "set_registered_model_alias"])
def test_killed_between_registering_and_recording(anywhere, method):
    ready = judged(anywhere, "run-1", "a")
    killed(jobs.register_killed_after, anywhere.folder, ready, method)
    assert [version.version for version in Registry(anywhere).versions()] == ["1"] and decisions(
        anywhere
    ) == []
    told = reconcile(anywhere)
    assert told[0] == "recorded the decision on version 1, which run run-1 had registered"
    assert decisions(anywhere) == [("run-1", "1")] and Registry(anywhere).aliases() == {
        "challenger": "1"
    }
    (event,) = Ledger(anywhere.ledger_url).events("decision")
    assert event.body.decision == ready.decision and event.body.digest == ready.evaluation.digest
    assert (
        reconcile(anywhere) == []
        and ready.register(anywhere).version == "1"
        and decisions(anywhere) == [("run-1", "1")]
    )


@pytest.mark.parametrize("cut_short", [None, "create_model_version", "delete_model_version"])
def test_a_lost_registry_gives_no_number_twice(anywhere, cut_short):
    for run, contents in (("run-1", "a"), ("run-2", "b")):
        judged(anywhere, run, contents).register(anywhere)
    _lose_registry(anywhere)
    ready = judged(anywhere, "run-3", "c")
    # In processes of their own: MLflow keeps the database open that this one has seen.
    if cut_short is not None:
        killed(jobs.register_killed_after, anywhere.folder, ready, cut_short)
        assert forked(jobs.versions, anywhere.folder) == []
    assert forked(jobs.register, anywhere.folder, ready) == "3"
    assert forked(jobs.versions, anywhere.folder) == ["3"]
    assert decisions(anywhere) == [("run-1", "1"), ("run-2", "2"), ("run-3", "3")]
    assert forked(jobs.register, anywhere.folder, judged(anywhere, "run-4", "d")) == "4"


def _lose_registry(project):
    """Deletes what the registry knows of the model; the ledger stays."""
    registry = Registry(project)
    if project.settings.registry.uri:
        registry._client.delete_registered_model(registry.name)
    else:
        (project.state / "registry.db").unlink()


def test_killed_between_a_deployment_and_its_alias(project):
    for run, contents in (("run-1", "a"), ("run-2", "b")):
        judged(project, run, contents).register(project)
    killed(jobs.promote_killed_before_alias, project.folder, "1")
    assert (
        Ledger(project.ledger_url).champion().version == "1"
        and "champion" not in Registry(project).aliases()
    )
    assert reconcile(project) == ["set the registry's aliases to what the ledger says"]
    assert (
        Registry(project).aliases() == {"champion": "1", "challenger": "2"}
        and reconcile(project) == []
    )


def test_push_that_was_killed_before_its_alias_is_repeated(project):
    version = judged(project, "run-1", "a").register(project)
    killed(jobs.push_killed_before_alias, project.folder, "run-1", version)
    from components.push_model.step import push_model

    push_model(project, "run-1", version, None, PASSED)
    assert len(Ledger(project.ledger_url).deployments()) == 1
    assert Registry(project).aliases() == {"champion": "1"} and reconcile(project) == []


def test_two_runs_register_different_candidates_at_once(anywhere):
    ready = [judged(anywhere, f"run-{contents}", contents) for contents in "ab"]
    found = together(jobs.register, *((anywhere.folder, each) for each in ready))
    assert sorted(found) == ["1", "2"]
    versions = {version.version: version.digest for version in Registry(anywhere).versions()}
    assert versions == {
        number: each.evaluation.digest for number, each in zip(found, ready, strict=True)
    }
    assert sorted(decisions(anywhere)) == sorted(zip(("run-a", "run-b"), found, strict=True))
    assert Registry(anywhere).aliases() == {"challenger": "2"} and len(mlflow_runs(anywhere)) == 4


def test_the_same_candidate_is_registered_twice_at_once(anywhere):
    ready = judged(anywhere, "run-1", "a")
    assert together(jobs.register, *[(anywhere.folder, ready)] * 2) == ["1", "1"]
    assert len(Registry(anywhere).versions()) == 1 and decisions(anywhere) == [("run-1", "1")]
    assert sorted(mlflow_runs(anywhere)) == [("instance-1", "FINISHED"), ("instance-2", "FINISHED")]


def test_different_versions_are_promoted_at_once(anywhere):
    for contents in "ab":
        judged(anywhere, f"run-{contents}", contents).register(anywhere)
    found = together(jobs.promote, (anywhere.folder, "1"), (anywhere.folder, "2"))
    made = [deployment for _, deployment in Ledger(anywhere.ledger_url).deployments()]
    # Whoever came second either saw the other's deployment and replaced it, or was refused.
    assert (
        set(found) <= {"1", "2", "LedgerError"} and len(made) == 2 - found.count("LedgerError") > 0
    )
    champion = Ledger(anywhere.ledger_url).champion().version
    assert Registry(anywhere).aliases()["champion"] == champion == made[-1].version
    assert reconcile(anywhere) == []


def test_what_another_process_is_doing_is_left_to_it(anywhere):
    ready = judged(anywhere, "run-1", "a")
    killed(jobs.register_killed_after, anywhere.folder, ready, "create_model_version")
    with Ledger(anywhere.ledger_url).exclusive():
        assert reconcile(anywhere) == [] and decisions(anywhere) == []
    assert len(reconcile(anywhere)) == 2 and decisions(anywhere) == [("run-1", "1")]


def test_nothing_to_complete_does_not_import_mlflow(project):
    whole_run(project, "run-1", "a")
    reconcile(project)
    code = (
        "import sys; from pathlib import Path; from perennial.project import load_project; "
        "from perennial.registry.repair import reconcile; "
        "print(reconcile(load_project(Path(sys.argv[1]))), "
        "{'mlflow', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, project.folder], check=True, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[0] == "[] set()"


def test_a_lost_mark_is_looked_for_again(project):
    whole_run(project, "run-1", "a")
    (project.state / MARK_FILE).write_text("damaged")
    assert reconcile(project) == [] and "damaged" not in (project.state / MARK_FILE).read_text()


def test_an_empty_project_has_nothing_to_complete(project):
    assert reconcile(project) == [] and not (project.state / MARK_FILE).exists()


def test_a_registry_that_is_away_is_told(tmp_path):
    project = make_project(
        tmp_path / "digits", registry={"uri": f"sqlite:///{tmp_path / 'garbage.db'}"}
    )
    judged(project, "run-1", "a")
    from perennial.ledger.events import NewEvent
    from tests.perennial.records import deployment

    Ledger(project.ledger_url).append(NewEvent("deployment", deployment("1"), "run-1"))
    (tmp_path / "garbage.db").write_bytes(os.urandom(4000))
    with pytest.raises(RegistryError):
        reconcile(project)
    (line,) = reconcile_or_tell(project)
    assert (
        line.startswith("not compared with the registry: registry at sqlite")
        and "not a database" in line
    )
