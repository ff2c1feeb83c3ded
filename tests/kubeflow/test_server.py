"""The server of tests refuses what its swagger file does not describe, so what it takes means something."""

from __future__ import annotations

import json
from http.client import HTTPConnection

import pytest

from tests.kubeflow.contract import ABSENT, FILE
from tests.kubeflow.server import Server

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=ABSENT)
EXPERIMENTS, RUNS = "/apis/v2beta1/experiments", "/apis/v2beta1/runs"
SPEC = b"pipelineInfo: {name: a}\nroot: {inputDefinitions: {parameters: {project: {parameterType: STRING}}}}\n"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


def call(server, method, path, body=None, **headers):
    """The status of an answer, and what it says."""
    connection = HTTPConnection(server.address.removeprefix("http://"), timeout=10)
    text = body if isinstance(body, bytes | None) else json.dumps(body)
    connection.request(method, path, text, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def create(server, name="one"):
    status, experiment = call(server, "POST", EXPERIMENTS, {"display_name": name})
    assert status == 200
    return experiment["experiment_id"]


def upload(server, content=SPEC, name="a"):
    """The ids of a pipeline and of a version of it."""
    _, pipeline = call(server, "POST", "/apis/v2beta1/pipelines", {"name": name})
    form = (
        b'--x\r\nContent-Disposition: form-data; name="uploadfile"; filename="a.yaml"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    path = f"/apis/v2beta1/pipelines/upload_version?name=1&pipelineid={pipeline['pipeline_id']}"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    status, version = call(server, "POST", path, form, **kind)
    return status, pipeline["pipeline_id"], version.get("pipeline_version_id")


def run_of(experiment, pipeline, version, **more):
    reference = {"pipeline_id": pipeline, "pipeline_version_id": version}
    parameters = {"parameters": {"project": "/p"}}
    return {
        "experiment_id": experiment,
        "display_name": "r",
        "pipeline_version_reference": reference,
        "runtime_config": parameters,
        **more,
    }


@pytest.mark.parametrize(
    "method, path, body, status",
    [
        ("GET", "/apis/v2beta1/experiment", None, 404),
        ("GET", "/apis/v1beta1/runs", None, 404),
        ("GET", f"{EXPERIMENTS}/none", None, 404),
        ("PUT", EXPERIMENTS, {"display_name": "a"}, 405),
        ("DELETE", RUNS, None, 405),
        ("GET", f"{RUNS}?page=2", None, 400),
        ("GET", f"{RUNS}?page_size=many", None, 400),
        ("GET", f"{RUNS}?sort_by=colour", None, 400),
        ("GET", f"{RUNS}?sort_by=created_at+down", None, 400),
        ("GET", f"{RUNS}?filter=name", None, 400),
        ("GET", f"{RUNS}?filter=%7B%22predicate%22%3A%5B%5D%7D", None, 400),
        ("POST", EXPERIMENTS, None, 400),
        ("POST", EXPERIMENTS, b"{", 400),
        ("POST", EXPERIMENTS, {}, 400),
        ("POST", EXPERIMENTS, {"name": "a"}, 400),
        ("POST", EXPERIMENTS, {"display_name": 1}, 400),
        ("POST", EXPERIMENTS, {"display_name": "a", "experiment_id": "chosen"}, 400),
        ("POST", f"{RUNS}/none:terminate", None, 404),
        ("POST", f"{RUNS}/none:stop", None, 404),
        ("GET", "/apis/v2beta1/filters", None, 501),
    ],
)
def test_what_the_file_does_not_describe_is_refused(server, method, path, body, status):
    answered, answer = call(server, method, path, body)
    assert answered == status and answer["message"]


def test_a_run_must_be_as_its_pipeline_declares(server):
    experiment = create(server)
    status, pipeline, version = upload(server)
    assert status == 200
    given = run_of(experiment, pipeline, version)
    assert call(server, "POST", RUNS, given)[0] == 200
    for more in (
        {"runtime_config": {"parameters": {}}},
        {"runtime_config": {"parameters": {"project": 7}}},
        {"runtime_config": {"parameters": {"project": "/p", "enable_caching": False}}},
        {"runtime_config": {"parameter": {}}},
        {"enable_caching": False},
        {"state": "SUCCEEDED"},
        {"experiment_id": "none"},
        {"pipeline_version_reference": {"pipeline_id": pipeline, "pipeline_version_id": "none"}},
    ):
        assert call(server, "POST", RUNS, given | more)[0] in (400, 404), more
    assert len(server.backend.runs) == 1


def test_a_recurring_run_must_have_a_trigger_that_its_scheduler_reads(server):
    experiment = create(server)
    _, pipeline, version = upload(server)
    path, given = "/apis/v2beta1/recurringruns", run_of(experiment, pipeline, version)
    cron = {"trigger": {"cron_schedule": {"cron": "0 30 3 * * 1-5"}}, "max_concurrency": "1"}
    assert call(server, "POST", path, given | cron)[0] == 200
    assert call(server, "POST", path, given | cron | {"max_concurrency": 1})[0] == 200
    for more in (
        {"max_concurrency": 0},
        {"max_concurrency": "one"},
        {"trigger": {"cron": "0 30 3 * * *"}},
        {"trigger": {"cron_schedule": {"cron": "0 30 3 * * 7"}}},
        {"trigger": {"cron_schedule": {"cron": "daily"}}},
        {"mode": "ON"},
        {"no_catchup": "yes"},
    ):
        assert call(server, "POST", path, given | cron | more)[0] == 400, more
    assert len(server.backend.schedules) == 2  # names need not differ


def test_state_is_kept_and_names_that_must_differ_do(server):
    create(server, "one")
    assert call(server, "POST", EXPERIMENTS, {"display_name": "one"})[0] == 409
    assert upload(server)[0] == 200
    assert call(server, "POST", "/apis/v2beta1/pipelines", {"name": "a"})[0] == 409
    assert upload(server, b"nothing", "b")[0] == 400
    for number in range(24):
        create(server, f"more-{number:02}")
    _, first = call(server, "GET", EXPERIMENTS)
    assert len(first["experiments"]) == 20 and first["total_size"] == 25
    _, second = call(server, "GET", f"{EXPERIMENTS}?page_token={first['next_page_token']}")
    assert len(second["experiments"]) == 5 and "next_page_token" not in second
    other = f"{EXPERIMENTS}?page_token={first['next_page_token']}&sort_by=display_name"
    assert call(server, "GET", other)[0] == 400


def test_a_run_goes_on_by_itself_and_ends_once(server):
    experiment = create(server)
    _, pipeline, version = upload(server)
    ended = []
    server.backend.ended = ended.append
    _, run = call(server, "POST", RUNS, run_of(experiment, pipeline, version))
    path = f"{RUNS}/{run['run_id']}"
    states = [call(server, "GET", path)[1]["state"] for _ in range(4)]
    assert states == ["PENDING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
    assert ended == [run["run_id"]]
    assert call(server, "POST", f"{path}:terminate")[0] == 400
    _, run = call(server, "POST", RUNS, run_of(experiment, pipeline, version))
    assert call(server, "POST", f"{RUNS}/{run['run_id']}:terminate")[0] == 200
    states = [call(server, "GET", f"{RUNS}/{run['run_id']}")[1]["state"] for _ in range(2)]
    assert states == ["CANCELING", "CANCELED"]


def test_failures_come_as_ordered(server):
    server.fail("ExperimentService_CreateExperiment", 503)
    assert call(server, "POST", EXPERIMENTS, {"display_name": "a"})[0] == 503
    assert not server.backend.experiments
    server.fail("ExperimentService_CreateExperiment", 503, after=True)
    assert call(server, "POST", EXPERIMENTS, {"display_name": "a"})[0] == 503
    assert len(server.backend.experiments) == 1
    server.fail(status=0)
    with pytest.raises(ConnectionError):
        call(server, "GET", EXPERIMENTS)
    server.credentials = {"Bearer secret"}
    assert call(server, "GET", EXPERIMENTS)[0] == 401
    assert call(server, "GET", EXPERIMENTS, authorization="Bearer secret")[0] == 200
    server.backend.namespaces = {"team"}
    server.credentials = set()
    assert call(server, "GET", EXPERIMENTS)[0] == 400
    assert call(server, "GET", f"{EXPERIMENTS}?namespace=other")[0] == 403
    assert call(server, "GET", f"{EXPERIMENTS}?namespace=team")[0] == 200
