"""The image itself, built and run as a cluster runs it; `make test-image` runs this file, `make test` does not.

Every container is without capabilities, a writable root and an account of its own, and, unless what lasts lies on
servers, without network; only the project's state and /tmp can be written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from perennial.ledger.events import Ledger
from perennial.ledger.verification import verify_ledger
from perennial.processes import find_free_ports
from tests.e2e.conftest import PERENNIAL, Digits, make_digits
from tests.perennial.registry import mlflow_server
from tests.session import serve_once

pytestmark = pytest.mark.timeout(3600)
ROOT = Path(__file__).parents[2]
BASE, TAG = "localhost/perennial-base:trixie", "localhost/perennial:tested"
ACCOUNT = 10001
LARGEST_GB = 2.5
LIMITS = (
    *("--runtime", "runc", "--network=none", "--read-only", "--read-only-tmpfs=false"),
    *("--tmpfs", "/tmp:rw,size=2g,mode=1777", "--cap-drop=ALL", "--user", f"{ACCOUNT}:0"),
    *("--security-opt", "no-new-privileges"),
    *("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=1000:1000"),
)
# What this machine needs for any container, as LIMITS has it for those that the tests start.
PODMAN = """
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]
"""
ASK = """
import json, sys, time, urllib.request
import pyarrow.parquet as pq
rows = pq.read_table(sys.argv[1])["image"].to_pylist()[:5]
body = json.dumps({"instances": [{"image": row} for row in rows]}).encode()
for _ in range(600):
    try:
        urllib.request.urlopen("http://127.0.0.1:8080/v2/models/digits/ready", timeout=5)
        break
    except OSError:
        time.sleep(0.2)
request = urllib.request.Request(
    "http://127.0.0.1:8080/v1/models/digits:predict", body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


def command(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


@dataclass(frozen=True)
class Container:
    """The project that containers work on; its folder can be read, its state written."""

    digits: Digits

    @property
    def options(self) -> list[str]:
        folder = self.digits.folder
        volumes = (f"{folder}:/project:ro", f"{folder / '.perennial'}:/project/.perennial:rw")
        return [*LIMITS, *(part for volume in volumes for part in ("--volume", volume))]

    def run(self, *arguments: str) -> str:
        return command("podman", "run", "--rm", *self.options, TAG, *arguments).stdout


@pytest.fixture(scope="module")
def image() -> dict:
    """Builds the image; gives what podman knows of it."""
    command("sh", "infra/images/base.sh", BASE)
    commit = command("git", "rev-parse", "HEAD").stdout.strip()
    began = time.monotonic()
    built = subprocess.run(
        ["sh", "infra/images/build.sh", TAG],
        cwd=ROOT,
        env={**os.environ, "BASE": BASE},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    (facts,) = json.loads(command("podman", "image", "inspect", TAG).stdout)
    print(
        f"\nimage: {facts['Size'] / 1e9:.2f} GB, made in {time.monotonic() - began:.0f} s, "
        f"{facts['Digest']}"
    )
    return {**facts, "commit": commit}


@pytest.fixture(scope="module")
def container(image, tmp_path_factory) -> Iterator[Container]:
    digits = make_digits(tmp_path_factory.mktemp("image") / "digits")
    state = digits.folder / ".perennial"
    state.mkdir()
    os.chown(state, ACCOUNT, 0)
    for folder in (digits.folder, *digits.folder.parents[:3]):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    yield Container(digits)


def test_it_says_what_it_is_and_is_not_too_large(image):
    assert image["Config"]["User"] == "10001:0"
    labels = image["Config"]["Labels"]
    revision = labels["org.opencontainers.image.revision"]
    assert revision.removesuffix("-modified") == image["commit"]
    assert image["Size"] < LARGEST_GB * 1e9


def test_nothing_that_builds_is_in_it(container):
    tools = "for tool in cc gcc g++ make ld uv pip; do ! command -v $tool || exit 1; done"
    assert container.run("sh", "-c", tools) == ""


def test_its_own_tfdv_loads_without_the_stand_in(container):
    code = (
        "import sys, tensorflow_data_validation as tfdv, ml_metadata\n"
        "print(*sys.version_info[:2], tfdv.__version__, ml_metadata.__version__)"
    )
    assert container.run("python", "-c", code).split() == ["3", "13", "1.21.0", "1.21.0"]


def test_the_bill_of_materials_names_python_and_system_packages(container):
    bill = json.loads(container.run("cat", "/usr/share/sbom/perennial.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    names = {part["name"]: part["version"] for part in bill["components"]}
    assert names["tensorflow_cpu"] == "2.21.0"
    assert {"libc6", "python3.13", "perennial", "tfx"} <= set(names)
    assert not {"pytest", "g++", "uv", "mypy", "tensorflow"} & set(names)


@pytest.mark.parametrize("day", [1, 2])
def test_the_loop_runs(container, day):
    container.digits.land("--days", str(day))
    began = time.monotonic()
    result = json.loads(container.run("perennial", "run", "/project", "--json").splitlines()[-1])
    print(f"\nday {day}: {result['outcome']} in {time.monotonic() - began:.0f} s")
    assert result["outcome"] in (("promoted",) if day == 1 else ("promoted", "kept_champion"))
    assert result["new_spans"] == [f"2026-01-0{day}"]


def test_the_same_image_serves(container):
    serve = ("perennial", "serve", "/project", "--port", "8080")
    name = command("podman", "run", "--detach", *container.options, TAG, *serve).stdout.strip()
    try:
        data = "/project/data/2026-01-01.parquet"
        answer = command("podman", "exec", name, "python", "-c", ASK, data).stdout
        assert len(json.loads(answer)["predictions"]) == 5
    finally:
        command("podman", "rm", "--force", name)


@pytest.fixture
def workers(image, s3) -> Iterator[tuple[str, dict]]:
    """A container of the image that is a pool of Beam's workers, and the settings that name it."""
    job, pool = find_free_ports(2)
    variables = (f"--env={name}={value}" for name, value in s3.environment.items())
    limits = (*(each for each in LIMITS if each != "--network=none"), "--network=host")
    name = command(
        *("podman", "run", "--detach", *limits, *variables, TAG),
        *("python", "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}"),
    ).stdout.strip()
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.beam_service", str(job)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    options = [
        f"--job_endpoint=127.0.0.1:{job}",
        "--environment_type=EXTERNAL",
        f"--environment_config=127.0.0.1:{pool}",
    ]
    yield name, {"runner": "PortableRunner", "options": options}
    service.kill()
    service.wait()
    command("podman", "rm", "--force", name)


def test_each_step_runs_in_a_container_of_its_own_over_servers(
    image, tmp_path, s3, postgres, workers, monkeypatch
):
    """The root on S3, ledger and registry on PostgreSQL and MLflow; packages are the image's.

    Beam's workers are processes of another container of the image.
    """
    registry = serve_once(
        "mlflow", lambda folder: mlflow_server.start(postgres.new_database(), folder)
    )
    settings = tmp_path / "containers.conf"
    settings.write_text(PODMAN)
    ledger = postgres.new_ledger()
    places = {
        **s3.environment,
        "CONTAINERS_CONF": str(settings),
        "PERENNIAL_ROOT": s3.new_root(),
        "PERENNIAL_LEDGER_URL": ledger,
        "PERENNIAL_REGISTRY_URI": registry.address,
    }
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    pool, beam = workers
    landed = f"{places['PERENNIAL_ROOT']}/landed"
    spans = f"{landed}/{{YYYY}}-{{MM}}-{{DD}}.parquet"
    digits = make_digits(tmp_path / "digits", data={"spans": spans}, beam=beam)
    digits.land("--days", "1")
    with fsspec.open(f"{landed}/2026-01-01.parquet", "wb") as target:
        target.write((digits.folder / "data" / "2026-01-01.parquet").read_bytes())
    began = time.monotonic()
    done = command(PERENNIAL, "run", digits.folder, "--image", TAG, "--json", check=False)
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"\nin containers: {result['outcome']} in {time.monotonic() - began:.0f} s")
    assert result["outcome"] == "promoted", done.stderr
    assert "a container of the image" in done.stderr
    assert "Starting worker with command" in command("podman", "logs", pool).stderr
    verify_ledger(Ledger(ledger))
    assert result["report"].startswith(places["PERENNIAL_ROOT"])
    assert list(digits.project.scratch.iterdir()) == []
    names = command("podman", "ps", "--all", "--format", "{{.Names}}").stdout
    assert "perennial-pod-" not in names
