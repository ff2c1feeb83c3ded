"""TFX's taxi module, unmodified, from landed months to a served model.

The tests of this module follow each other.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import time

import httpx
import pytest
import yaml

from tests.e2e.conftest import PERENNIAL, ROOT, Digits
from tests.perennial.folders import TAXI

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.slow,
    pytest.mark.skipif(not TAXI.exists(), reason="the taxi trips are not beside the repository"),
]

EXAMPLE = ROOT / "examples" / "taxi"
# A trip as a client knows it; everything else may be left out.
TRIP = {
    "fare": 12.5,
    "trip_miles": 3.1,
    "trip_start_month": 4,
    "trip_start_day": 6,
    "trip_start_hour": 19,
    "payment_type": "Credit Card",
}


class Taxi(Digits):
    """The taxi project in a folder of the tests."""

    def land(self, *arguments):
        command = [sys.executable, self.folder / "land.py", "--csv", TAXI, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def served(self):
        """A client of a server of the project."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [PERENNIAL, "serve", self.folder, "--port", str(port)]
        log = (self.folder / "server.log").open("w")
        with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                    _wait(client, process)
                    yield client
            finally:
                process.terminate()


@pytest.fixture(scope="module")
def taxi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project") / "taxi"
    folder.mkdir()
    for name in ("project.yaml", "schema.pbtxt", "expectations.json", "land.py"):
        shutil.copy(EXAMPLE / name, folder / name)
    settings = yaml.safe_load((folder / "project.yaml").read_text())
    settings["run_fn"]["train_steps"] = 600  # there are fewer trips here than in the example
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    return Taxi(folder)


def test_the_example_holds_no_module_of_its_own(taxi):
    assert not list(EXAMPLE.glob("*model*"))
    assert taxi.project.uses_run_fn and "tfx" in taxi.project.module_path.parts


def test_first_months_give_the_first_champion(taxi):
    assert "landed 2013-02.csv: 299 trips" in taxi.land("--months", "2")
    code, ended = taxi.run_command()
    assert code == 0 and ended["outcome"] == "promoted", ended
    assert ended["version"] == ended["champion"] == "1"
    assert ended["window"] == ["2013-01", "2013-02"]


def test_the_report_leads_to_what_run_fn_logged(taxi):
    ended = taxi.ledger.events("run_ended")[-1].body
    report = taxi.folder / ended.report
    assert list((report.parent / "tensorboard").rglob("events.out.tfevents.*"))
    assert "log loss" in report.read_text()


def test_a_client_may_leave_optional_features_out(taxi):
    whole = {
        **TRIP,
        "company": "",
        "trip_seconds": 0,
        "pickup_latitude": 0.0,
        "dropoff_community_area": 0,
    }
    cash = {
        **TRIP,
        "payment_type": "Cash",
        "company": "Blue Ribbon Taxi Association Inc.",
        "trip_seconds": 900,
    }
    with taxi.served() as client:
        answer = client.post("/v1/models/taxi:predict", json={"instances": [TRIP, whole, cash]})
        lacking = {name: value for name, value in TRIP.items() if name != "fare"}
        refused = client.post("/v1/models/taxi:predict", json={"instances": [lacking]})
    assert answer.status_code == 200, answer.text
    short, long, in_cash = answer.json()["predictions"]
    assert short == long
    assert short["class"] in (0, 1) and sum(short["probabilities"]) == pytest.approx(1, abs=1e-5)
    # Drivers seldom write down what they were given in cash.
    assert in_cash["probabilities"][1] < short["probabilities"][1]
    assert refused.status_code == 400 and "fare" in refused.text


def test_another_month_gives_another_version(taxi):
    taxi.land("--months", "3")
    code, ended = taxi.run_command()
    assert code == 0 and ended["outcome"] in ("promoted", "kept_champion"), ended
    assert ended["new_spans"] == ["2013-03"] and ended["version"] == "2"
    assert ended["champion"] == ("2" if ended["outcome"] == "promoted" else "1")
    assert any("log loss" in reason for reason in ended["reasons"])


def _wait(client, process):
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/v2/models/taxi/ready").status_code == 200:
                return
        time.sleep(0.2)
    raise TimeoutError("the server did not become ready")
