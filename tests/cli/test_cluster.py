"""`submit`, `runs`, `cancel` and `schedule` against a server made from Kubeflow Pipelines' swagger file."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from components.conclude_run.ending import end_run
from components.conclude_run.step import Findings, conclude_run
from perennial.cli.main import app
from perennial.cluster import connection, runs
from perennial.errors import DataError, PerennialError, ProjectError
from perennial.ledger.events import Ledger
from perennial.ledger.failures import describe_failure, record_failure
from perennial.package.store import parse_reference
from perennial.project import load_project
from perennial.results.run_records import RunRecords
from perennial.results.store import Results
from pipelines.compile import compile_pipeline
from tests.certificates import make_certificate
from tests.kubeflow.contract import ABSENT, FILE
from tests.kubeflow.server import Server
from tests.perennial.folders import make_project
from tests.perennial.records import run_started, selection

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=ABSENT)
CREATE_RUN, UPLOAD = "RunService_CreateRun", "UploadPipelineVersion"
CREATE, DELETE = (f"RecurringRunService_{verb}RecurringRun" for verb in ("Create", "Delete"))


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it printed, and its error's one message."""

    code: int
    output: str
    error: str


@pytest.fixture(scope="module")
def compiled():
    """What was compiled before, by what it was compiled from: it takes a second."""
    texts: dict[str, str] = {}

    def compile_once(destination, *arguments):
        key = repr(arguments)
        if key not in texts:
            compile_pipeline(destination, *arguments)
            texts[key] = destination.read_text()
        destination.write_text(texts[key])

    return compile_once


@pytest.fixture
def server(monkeypatch, compiled):
    monkeypatch.setattr("pipelines.compile.compile_pipeline", compiled)
    for module in (connection, runs):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.02)
    server = Server()
    server.backend.plan = ["RUNNING", "SUCCEEDED"]
    monkeypatch.setenv("PERENNIAL_KUBEFLOW_ENDPOINT", server.address)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    volume = {"claim": "projects", "folder": str(tmp_path_factory.getbasetemp())}
    return make_project(tmp_path_factory.mktemp("made") / "digits", kubeflow={"volumes": [volume]})


@pytest.fixture
def project(made, tmp_path, server, monkeypatch):
    """A project whose runs end as the pipeline's exit task ends them; its root is on a volume."""
    shutil.copytree(made.folder, tmp_path / "digits")
    monkeypatch.setenv("PERENNIAL_ROOT", str(tmp_path / "root"))
    project = load_project(tmp_path / "digits")
    server.backend.ended = lambda run: end(project, run, "kept_champion")
    return project


# Why a run fails, by the outcome that follows.
FAILURES = {
    "failed": ProjectError("model.py", "must build a model", "none", "Correct it."),
    "data_rejected": DataError("span 1", "must be readable", "nothing", "Land it again."),
}


def end(project, run, outcome):
    """Ends a run as its exit task does, in the root and in the ledger."""
    ledger, results = Ledger(project.ledger_url), Results(project.root, project.state)
    chosen = selection(run, trigger="ci")
    ledger.append(run_started(run, chosen))
    if outcome in FAILURES:
        failure = describe_failure("prepare_span", FAILURES[outcome])
        record_failure(ledger, run, failure, None)
        end_run(project, results, run, None)
    else:
        conclude_run(project, run, outcome, Findings(chosen), RunRecords(results, run))


def change(project, **settings):
    path = project.folder / "project.yaml"
    values = yaml.safe_load(path.read_text())
    values["kubeflow"] |= settings
    path.write_text(yaml.safe_dump(values))


def perennial(project, *words, **environment):
    """Runs a command whose project stands behind its name."""
    name, *rest = words
    names = [name, rest.pop(0)] if name == "schedule" else [name]
    done = CliRunner().invoke(app, [*names, str(project.folder), *rest], env=environment)
    error = done.exception
    if isinstance(error, PerennialError):
        return Ended(error.exit_code, done.output, str(error))
    assert error is None or isinstance(error, SystemExit), repr(error)
    return Ended(done.exit_code, done.output, "")


def schedules(server):
    return list(server.backend.schedules.values())


def test_a_pipeline_is_uploaded_once_for_each_content(project, server):
    assert "uploaded now" in perennial(project, "submit").output
    second = perennial(project, "submit", "--trigger", "ci", "--retrain", "--json")
    assert server.calls.count(UPLOAD) == 1 and server.calls.count(CREATE_RUN) == 2
    (pipeline,), (version,) = server.backend.pipelines.values(), server.backend.versions.values()
    assert pipeline["name"] == "continuous-training-digits"
    assert version["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == pipeline["name"]
    first, run = server.backend.runs.values()
    assert json.loads(second.output.splitlines()[-1]) == {
        "run": run["run_id"],
        "name": run["display_name"],
    }
    assert run["display_name"].startswith("digits-ci-")
    parameters = [each["runtime_config"]["parameters"] for each in (first, run)]
    # The package, as any machine names it; both runs read the same.
    package = parse_reference(parameters[0].pop("project"))
    assert package == parse_reference(parameters[1].pop("project"))
    assert (package.root, package.folder) == (project.root, None)
    assert (Path(project.root) / "packages" / f"{package.digest}.tar").is_file()
    assert parameters == [{"trigger": "hand"}, {"trigger": "ci", "retrain": True}]
    # The version as it was compiled: nothing is overridden when it is submitted.
    assert "pipeline_spec" not in run
    change(project, retries=0)
    assert "uploaded now" in perennial(project, "submit").output
    assert len(server.backend.versions) == 2 and len(server.backend.pipelines) == 1
    assert len(server.backend.experiments) == 1


@pytest.mark.parametrize(
    "outcome, state, code",
    [
        ("promoted", "SUCCEEDED", 0),
        ("nothing_new", "SUCCEEDED", 0),
        ("data_rejected", "FAILED", 3),
        ("failed", "FAILED", 2),  # by a mistake in the project, as `perennial run` ends
    ],
)
def test_the_outcome_and_the_exit_code_come_from_the_root(
    project, server, tmp_path, monkeypatch, outcome, state, code
):
    """Also where the cluster's ledger cannot be seen from here."""
    server.backend.plan = ["RUNNING", state]
    server.backend.ended = lambda run: end(project, run, outcome)
    monkeypatch.setenv("PERENNIAL_LEDGER_URL", f"sqlite:///{tmp_path / 'another.db'}")
    done = perennial(project, "submit", "--wait", "--json")
    assert done.code == code
    result = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    assert result["outcome"] == outcome and result["run"] in server.backend.runs
    assert "running" in done.output and outcome in perennial(project, "runs").output


def test_a_root_that_lacks_the_outcome_is_made_up_for_by_the_ledger(project, server):
    def end_without_root(run):
        end(project, run, "data_rejected")
        (Path(project.root) / "runs" / run / "outcome.json").unlink()

    server.backend.ended = end_without_root
    assert perennial(project, "submit", "--wait").code == 3


def test_a_run_without_an_end_in_the_ledger_is_told_from_a_good_one(project, server):
    server.backend.ended = lambda run: None
    done = perennial(project, "submit", "--wait", "--json")
    result = json.loads(done.output.splitlines()[-1])
    assert result["outcome"] == "failed" and result["reasons"] == [done.error]
    (run,) = server.backend.runs
    assert f"perennial logs PROJECT {run}" in done.error
    assert done.code == 1 and "SUCCEEDED on the cluster, and no end in either" in done.error


def test_waiting_ends_when_the_run_is_cancelled(project, server):
    server.backend.plan = ["RUNNING", "CANCELED"]
    for recorded in (lambda run: None, lambda run: end(project, run, "failed")):
        server.backend.ended = recorded
        done = perennial(project, "submit", "--wait")
        assert done.code == 6 and "cancelled" in done.error and "\n" not in done.error


def test_waiting_ends_in_time(project, server):
    server.backend.plan = ["PENDING", "RUNNING"]
    done = perennial(project, "submit", "--wait", "--minutes", "0.005")
    assert done.code == 7 and "RUNNING" in done.error and "perennial cancel" in done.error
    assert "RunService_TerminateRun" not in server.calls


def test_who_stops_waiting_does_not_end_the_run(project, server):
    server.backend.ended = lambda run: os.kill(os.getpid(), signal.SIGINT)
    done = perennial(project, "submit", "--wait")
    assert done.code == 130 and "goes on; `perennial cancel` ends it" in done.output
    assert "RunService_TerminateRun" not in server.calls


def test_a_run_is_cancelled_once_and_only_by_its_own_project(project, server, tmp_path):
    server.backend.plan = ["PENDING", "RUNNING"]
    perennial(project, "submit")
    (run,) = server.backend.runs
    assert "is being cancelled" in perennial(project, "cancel", run).output
    assert "was cancelled already" in perennial(project, "cancel", run).output
    assert server.backend.runs[run]["state"] == "CANCELED"
    server.backend.plan = ["RUNNING", "SUCCEEDED"]
    perennial(project, "submit", "--wait")
    other = list(server.backend.runs)[1]
    ended = perennial(project, "cancel", other)
    assert ended.code == 4 and "must be under way. Received: SUCCEEDED" in ended.error
    assert perennial(project, "cancel", "none").code == 4
    neighbour = make_project(tmp_path / "neighbour", name="neighbour")
    refused = perennial(neighbour, "cancel", run)
    assert refused.code == 4 and "must be of this project" in refused.error


def test_runs_of_many_pages_are_listed_the_newest_first(project, server):
    assert "no runs yet" in perennial(project, "runs").output
    perennial(project, "submit")
    (run,) = server.backend.runs.values()
    for number in range(1, 120):
        copy = {
            "run_id": f"run-{number:03}",
            "created_at": f"2026-02-01T00:{number // 60:02}:{number % 60:02}Z",
        }
        server.backend.runs[copy["run_id"]] = run | copy
    # Of another pipeline in the same experiment, and of a schedule.
    reference = {"pipeline_id": "another", "pipeline_version_id": "another"}
    server.backend.runs["run-119"]["pipeline_version_reference"] = reference
    server.backend.runs["run-118"]["recurring_run_id"] = "some"
    lines = perennial(project, "runs", "--last", "200").output.splitlines()
    assert len(lines) == 119 and lines[0].startswith("run-118") and " schedule " in lines[0]
    listed = json.loads(perennial(project, "runs", "--last", "2", "--json").output)
    assert [each["run"] for each in listed] == ["run-118", "run-117"]
    assert [each["trigger"] for each in listed] == ["schedule", "hand"]
    assert [each["outcome"] for each in listed] == [None, None]


def test_what_cannot_be_reached_or_used_is_said_in_one_line(project, server, tmp_path):
    server.credentials = {"Bearer a secret", "session=another secret"}
    refused = perennial(project, "runs")
    assert refused.code == 5 and "401 Unauthorized" in refused.error
    wrong = perennial(project, "runs", PERENNIAL_KUBEFLOW_TOKEN="wrong secret")
    assert wrong.code == 5 and "secret" not in wrong.error and "\n" not in wrong.error
    missing = perennial(project, "runs", PERENNIAL_KUBEFLOW_TOKEN_FILE=str(tmp_path / "none"))
    assert missing.code == 5 and "must be a file with a token" in missing.error
    token = tmp_path / "token"
    token.write_text("a secret\n")
    assert perennial(project, "runs", PERENNIAL_KUBEFLOW_TOKEN="a secret").code == 0
    assert perennial(project, "runs", PERENNIAL_KUBEFLOW_TOKEN_FILE=str(token)).code == 0
    assert perennial(project, "runs", KF_PIPELINES_SA_TOKEN_PATH=str(token)).code == 0
    assert perennial(project, "runs", PERENNIAL_KUBEFLOW_COOKIES="session=another secret").code == 0
    server.sign_in = True
    sign_in = perennial(project, "submit")
    assert sign_in.code == 5 and "a page for people" in sign_in.error
    server.stop()
    silent = perennial(project, "runs")
    assert silent.code == 4 and "Received: Connection refused" in silent.error
    assert "\n" not in silent.error and silent.output == ""
    nowhere = {"PERENNIAL_KUBEFLOW_ENDPOINT": "", "KUBECONFIG": str(tmp_path / "none")}
    nobody = perennial(project, "runs", **nowhere)
    assert nobody.code == 4 and "kubeflow.endpoint must be the URL" in nobody.error


def test_a_certificate_of_ones_own_must_be_named(project, tmp_path):
    server = Server(make_certificate(tmp_path / "server.pem"))
    change(project, endpoint=server.address)
    own = {"PERENNIAL_KUBEFLOW_ENDPOINT": ""}
    refused = perennial(project, "runs", **own)
    assert refused.code == 4 and "certificate verify failed" in refused.error
    change(project, ca_file="../server.pem")
    assert perennial(project, "runs", **own).code == 0
    change(project, ca_file="../none.pem")
    missing = perennial(project, "runs", **own)
    assert missing.code == 2 and "kubeflow.ca_file must be a file" in missing.error
    server.stop()


def test_an_installation_with_several_users_asks_for_a_namespace(project, server):
    server.backend.namespaces = {"team"}
    refused = perennial(project, "submit")
    assert refused.code == 4 and "empty namespace in multi-user mode" in refused.error
    foreign = perennial(project, "submit", PERENNIAL_KUBEFLOW_NAMESPACE="other")
    assert foreign.code == 5 and "no access to namespace other" in foreign.error
    change(project, namespace="team", experiment="nightly", service_account="trainer")
    assert perennial(project, "submit", "--wait").code == 0
    assert perennial(project, "schedule", "set", "0 3 * * *").code == 0
    (experiment,) = server.backend.experiments.values()
    assert (experiment["namespace"], experiment["display_name"]) == ("team", "nightly")
    (run,) = server.backend.runs.values()
    assert run["service_account"] == schedules(server)[0]["service_account"] == "trainer"


@pytest.mark.parametrize("status, after", [(503, False), (503, True), (0, True)])
def test_a_failure_that_passes_leaves_one_of_everything(project, server, status, after):
    """Whether the call was not performed or only its answer was lost."""
    creating = (
        "PipelineService_CreatePipeline",
        "ExperimentService_CreateExperiment",
        *(UPLOAD, CREATE_RUN, CREATE),
    )
    for operation in creating:
        server.fail(operation, status, after=after)
    assert perennial(project, "submit").code == 0
    assert perennial(project, "schedule", "set", "0 3 * * *").code == 0
    state = server.backend
    held = (state.pipelines, state.experiments, state.versions, state.runs, state.schedules)
    assert [len(each) for each in held] == [1] * 5
    server.fail("RunService_GetRun", status, after=after)
    assert perennial(project, "submit", "--wait").code == 0


def test_a_failure_that_does_not_pass_is_told(project, server, monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 2 * connection.PATIENCE)
    server.fail(status=503, times=99)
    done = perennial(project, "submit")
    assert done.code == 4 and "503 Service Unavailable: to order" in done.error


def test_pods_must_reach_the_root_unless_the_image_holds_the_project(server, tmp_path):
    done = perennial(make_project(tmp_path / "digits"), "submit")
    assert done.code == 2 and "root must be a store that pods reach" in done.error
    assert not server.calls
    held = make_project(tmp_path / "held", kubeflow={"project": "/projects/digits"})
    assert perennial(held, "submit").code == 0
    (run,) = server.backend.runs.values()
    assert run["runtime_config"]["parameters"] == {"trigger": "hand"}


def test_a_schedule_is_set_as_often_as_one_likes(project, server):
    done = perennial(project, "schedule", "set", "30 3 * * 1-5")
    assert "schedule digits set: 30 3 * * 1-5 UTC" in done.output
    (first,) = schedules(server)
    assert first["trigger"] == {"cron_schedule": {"cron": "0 30 3 * * 1-5"}}
    assert (first["max_concurrency"], first["no_catchup"]) == ("1", True)
    assert first["mode"] == "ENABLE"
    assert "digits is as it was" in perennial(project, "schedule", "set", "30 3 * * 1-5").output
    assert schedules(server) == [first] and server.calls.count(CREATE) == 1
    # The project as it was when the schedule was set, until it is set again.
    package = first["runtime_config"]["parameters"]["project"]
    (project.folder / "model.py").open("a").write("# changed\n")
    assert "deleted 1" in perennial(project, "schedule", "set", "30 3 * * 1-5").output
    (second,) = schedules(server)
    assert second["runtime_config"]["parameters"]["project"] != package
    # Another time, another content, other arguments: the new one first, then the old one goes.
    change(project, retries=0)
    perennial(project, "schedule", "set", "30 3 * * 1-5")
    done = perennial(project, "schedule", "set", "0 4 * * 0", "--tune")
    assert "deleted 1 that it replaces" in done.output
    (last,) = schedules(server)
    assert last["runtime_config"]["parameters"] | {"project": ""} == {
        "project": "",
        "trigger": "schedule",
        "tune": True,
    }
    assert last["pipeline_version_reference"] != first["pipeline_version_reference"]
    changes = [each for each in server.calls if each in (CREATE, DELETE)]
    assert changes == [CREATE, *[CREATE, DELETE] * 3]
    # Runs of another experiment: the old schedule must not go on in the first one.
    change(project, experiment="nightly")
    assert "deleted 1" in perennial(project, "schedule", "set", "0 4 * * 0", "--tune").output
    assert len(schedules(server)) == 1 and schedules(server) != [last]
    # A run that the old one began goes on.
    assert {policy for _, policy in server.backend.deleted} == {"ORPHAN"}


def test_a_schedule_that_was_cut_short_is_made_good(project, server):
    perennial(project, "schedule", "set", "0 3 * * *")
    server.fail(DELETE, 500)
    assert perennial(project, "schedule", "set", "0 4 * * *").code == 4
    assert len(schedules(server)) == 2
    perennial(project, "schedule", "set", "0 4 * * *")
    (left,) = schedules(server)
    assert left["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"


def test_a_schedule_is_paused_resumed_and_deleted(project, server):
    assert "no schedules yet" in perennial(project, "schedule", "list").output
    assert perennial(project, "schedule", "pause").code == 4
    perennial(project, "schedule", "set", "0 3 * * *")
    perennial(project, "schedule", "set", "0 4 * * 0", "--name", "weekly", "--retrain")
    perennial(project, "schedule", "pause")
    assert perennial(project, "schedule", "list").output.splitlines() == [
        "weekly  runs  0 4 * * 0 UTC  retrain",
        "digits  paused  0 3 * * * UTC",
    ]
    assert "stays paused" in perennial(project, "schedule", "set", "0 5 * * *").output
    listed = json.loads(perennial(project, "schedule", "list", "--json").output)
    assert [(each["cron"], each["enabled"]) for each in listed] == [
        ("0 0 5 * * *", False),
        ("0 0 4 * * 0", True),
    ]
    perennial(project, "schedule", "resume")
    assert {each["status"] for each in schedules(server)} == {"ENABLED"}
    assert perennial(project, "schedule", "delete").output == "schedule digits deleted\n"
    assert perennial(project, "schedule", "delete").output == "there is no schedule digits\n"
    assert [each["display_name"] for each in schedules(server)] == ["weekly"]


def test_a_time_zone_that_the_installation_does_not_have_is_converted_or_refused(project, server):
    india = ("--time-zone", "Asia/Kolkata")
    done = perennial(project, "schedule", "set", "0 3 * * 1", *india)
    assert "0 3 * * 1 in Asia/Kolkata is 30 21 * * 0 UTC" in done.output
    assert schedules(server)[0]["trigger"]["cron_schedule"]["cron"] == "0 30 21 * * 0"
    berlin = perennial(project, "schedule", "set", "0 3 * * *", "--time-zone", "Europe/Berlin")
    assert "are not always the same time apart" in berlin.error and len(schedules(server)) == 1
    change(project, time_zone="Europe/Berlin")
    done = perennial(project, "schedule", "set", "0 3 * * *", "--time-zone", "Europe/Berlin")
    assert "set: 0 3 * * * Europe/Berlin" in done.output
    assert perennial(project, "schedule", "set", "3 o'clock").code == 1
    assert perennial(project, "schedule", "set", "0 3 * * *", "--time-zone", "Berlin").code == 2


def test_the_pages_commands_work(project, server):
    """Those of docs/kubernetes.md, one after the other.

    All but those of an empty cluster, and `rerun`, which takes a run that left its inputs.
    """
    page = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    lines = [line for line in lines if "my-project" in line and line[1] != "rerun"]
    assert len(lines) > 5
    server.backend.plan = ["PENDING", "RUNNING", "RUNNING"]
    for _, *words in lines:
        if words[0] == "submit":  # the run that is cancelled below must not have ended
            words.remove("--wait")
        words.remove("my-project")
        words = [next(iter(server.backend.runs)) if word == "RUN" else word for word in words]
        done = perennial(project, *words)
        assert done.code == 0, (words, done)
