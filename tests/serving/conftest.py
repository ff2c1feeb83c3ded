"""A real registry, ledger and server of a tiny model, in folders of the test.

Versions of the model differ in the class they prefer, so an answer shows which version computed it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from perennial.export.contract import write_contract
from perennial.ledger.events import Ledger
from perennial.processes import find_free_ports
from perennial.project import Project, load_project
from schemas.records import (
    Deployment,
    ModelContract,
    ServedDomain,
    ServedFeature,
    ServedTask,
)

ROOT = Path(__file__).parents[2]
CLASSES = 3
# `a`, `b` and `c` take three features and prefer class 0, 1 and 2; `one` takes one. `trip` has two
# tasks, a latent vector and features that may be left out; `fare` is a regression; `dense`
# multiplies matrices, whose last bits depend on how many rows they have. The others do not keep a
# contract, or have none.
MODELS = {
    "a": (0, "three"),
    "b": (1, "three"),
    "c": (2, "three"),
    "one": (2, "one"),
    "broken": (0, "broken"),
    "trip": (0, "trip"),
    "fare": (0, "fare"),
    "bare": (0, "one"),
    "other": (0, "one"),
    "dense": (0, "dense"),
}
# Registered in this order, as versions from 1.
VERSIONS = ("a", "b", "c", "broken", "trip", "fare", "bare", "other", "dense")
PIXELS = ServedFeature(name="pixels", dtype="float32", shape=[64])
IMAGE = ServedFeature(name="image", dtype="float32", shape=[4])
AGE = ServedFeature(name="age", dtype="int64", shape=[], domain=ServedDomain(high=150))
CITY = ServedFeature(name="city", dtype="string", shape=[])
MILES = ServedFeature(name="miles", dtype="float32", shape=[])
HOURS = ServedFeature(name="hours", dtype="int64", shape=[2], default=[0, 12])
COMPANY = ServedFeature(name="company", dtype="string", shape=[], default=["unknown"])
FAVOURITE = ServedTask(name="favourite", kind="multi_class", classes=CLASSES)
TIPPED, FARE = (
    ServedTask(name="tipped", kind="binary", classes=2),
    ServedTask(name="fare", kind="regression"),
)
CONTRACTS = {
    name: ModelContract(features=[IMAGE, AGE, CITY], tasks=[FAVOURITE]) for name in "abc"
} | {
    "one": ModelContract(features=[IMAGE], tasks=[FAVOURITE]),
    "broken": ModelContract(features=[IMAGE], tasks=[FAVOURITE]),
    "trip": ModelContract(features=[MILES, HOURS, COMPANY], tasks=[TIPPED, FARE], latent=3),
    "fare": ModelContract(features=[MILES, HOURS, COMPANY], tasks=[FARE]),
    "other": ModelContract(features=[AGE], tasks=[FAVOURITE]),
    "dense": ModelContract(features=[PIXELS], tasks=[FAVOURITE]),
}
ROWS = {
    "image": [[0.0, 0.25, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0]],
    "age": [41, -3],
    "city": ["Turin", "Łódź"],
}

# Imports TensorFlow once, then only forks, as the pipeline does: a child builds the models, another
# serves a folder.
_FORGE = """
import json
import os
import signal
import sys
import tensorflow as tf

class Tiny(tf.Module):
    def __init__(self, favourite, classes):
        self.bias = tf.Variable(tf.one_hot(favourite, classes) * 5.0)

    def score(self, image, extra):
        scores = tf.nn.softmax(self.bias + 0.01 * (tf.reduce_mean(image, axis=1) + extra)[:, None])
        return {"class": tf.argmax(scores, axis=-1), "probabilities": scores}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="image")])
    def one(self, image):
        return self.score(image, 0.0)

    @tf.function(input_signature=[
        tf.TensorSpec([None, 4], tf.float32, name="image"),
        tf.TensorSpec([None], tf.int64, name="age"),
        tf.TensorSpec([None], tf.string, name="city"),
    ])
    def three(self, image, age, city):
        return self.score(image, tf.cast(age, tf.float32) + tf.cast(tf.strings.length(city), tf.float32))

    @tf.function(input_signature=[
        tf.TensorSpec([None], tf.float32, name="miles"),
        tf.TensorSpec([None, 2], tf.int64, name="hours"),
        tf.TensorSpec([None], tf.string, name="company"),
    ])
    def trip(self, miles, hours, company):
        letters = tf.cast(tf.strings.length(company), tf.float32)
        chance = tf.nn.sigmoid(miles + 0.0 * self.bias[0])
        return {
            "tipped_class": tf.cast(chance > 0.5, tf.int64),
            "tipped_probabilities": tf.stack([1 - chance, chance], axis=1),
            "fare_value": self.price(miles),
            "latent": tf.concat([letters[:, None], tf.cast(hours, tf.float32)], axis=1),
        }

    @tf.function(input_signature=[
        tf.TensorSpec([None], tf.float32, name="miles"),
        tf.TensorSpec([None, 2], tf.int64, name="hours"),
        tf.TensorSpec([None], tf.string, name="company"),
    ])
    def fare(self, miles, hours, company):
        return {"value": self.price(miles)}

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="pixels")])
    def dense(self, pixels):
        hidden = tf.nn.relu(tf.matmul(pixels, tf.random.stateless_normal([64, 48], [1, 2])))
        scores = tf.matmul(hidden, tf.random.stateless_normal([48, 3], [3, 4])) / 100.0
        chances = tf.nn.softmax(scores + 0.0 * self.bias)
        return {"class": tf.argmax(chances, axis=-1), "probabilities": chances}

    def price(self, miles):
        return 3.25 + 2.0 * miles

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="image")])
    def broken(self, image):
        return {"label": tf.reduce_sum(image, axis=1)}

def build():
    for folder, favourite, signature in json.loads(sys.argv[1]):
        tiny = Tiny(favourite, int(sys.argv[2]))
        tf.saved_model.save(tiny, folder, signatures=getattr(tiny, signature))

def run_in_child(work):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert run_in_child(build) == 0
print("built", flush=True)
import kserve
from pathlib import Path
from serving.server import serve_folder
if order := sys.stdin.readline():
    name, version, folder, digest, port = json.loads(order)
    sys.exit(run_in_child(lambda: serve_folder(name, version, Path(folder), digest, port)))
"""


_SERVE = """
import sys
from perennial.errors import PerennialError
from perennial.project import load_project
from serving.server import serve
try:
    serve(load_project(sys.argv[1]), int(sys.argv[2]), grpc_port=int(sys.argv[3]) or None)
except PerennialError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@dataclass
class Server:
    """A server process and how to talk to it."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    grpc: str = ""
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))

    def post(self, path: str, body: object) -> httpx.Response:
        return self.client.post(self.url + path, json=body)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.url + path)

    def wait_ready(self, path: str) -> None:
        until = time.monotonic() + 90
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if self.get(path).status_code == 200:
                    return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def stop(self) -> int:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@dataclass
class Forge:
    """The process that builds models."""

    process: subprocess.Popen[str]
    folder: Path
    log: Path

    def serve_folder(self, name: str, version: str, folder: Path, digest: str, port: int) -> Server:
        """Has a forked child serve a folder."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([name, version, str(folder), digest, port]) + "\n")
        self.process.stdin.flush()
        return Server(self.process, f"http://127.0.0.1:{port}", self.log)


@dataclass
class World:
    """A project with registered versions, and its server."""

    project: Project
    server: Server
    digests: dict[str, str]

    def deploy(self, version: str, digest: str | None = None) -> float:
        """Deploys a version as another process would; gives the moment."""
        ledger = Ledger(self.project.ledger_url)
        champion = ledger.champion()
        deployment = Deployment(
            version=version,
            digest=digest or self.digests[version],
            action="promote",
            by="test",
            why="test",
            replaces=champion.deployment if champion else None,
        )
        ledger.deploy(deployment, None)
        ledger.close()
        return time.monotonic()

    def shown_version(self) -> str:
        """The version that the server tells Prometheus of.

        It takes no request that fits the model.
        """
        lines = self.server.get("/metrics").text.splitlines()
        info = next(line for line in lines if line.startswith("perennial_model_info{"))
        return info.split('version="')[1].split('"')[0]

    def serve_version(self, version: str) -> None:
        """Deploys a version unless it serves, and waits until it does."""
        if self.shown_version() == version:
            return
        until = self.deploy(version) + 20
        while self.shown_version() != version:
            assert time.monotonic() < until, self.server.log.read_text()
            time.sleep(0.02)

    def serving_version(self) -> str:
        body = {"instances": [{name: rows[0] for name, rows in ROWS.items()}]}
        answer = self.server.post("/v1/models/tiny:predict", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["model_version"])

    def wait_for(self, version: str, since: float) -> float:
        """Waits until a version serves; gives the seconds since its deployment."""
        while time.monotonic() - since < 20:
            if self.serving_version() == version:
                return time.monotonic() - since
            time.sleep(0.02)
        raise TimeoutError(self.server.log.read_text())


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Starts to build the models in another process."""
    folder = tmp_path_factory.mktemp("models")
    order = json.dumps([[str(folder / name), *form] for name, form in MODELS.items()])
    log = folder / "forge.log"
    command = [sys.executable, "-c", _FORGE, order, str(CLASSES)]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            cwd=ROOT,
        )
    yield Forge(process, folder, log)
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="session")
def tiny_models(forge: Forge) -> dict[str, Path]:
    """The built SavedModels, by name."""
    assert forge.process.stdout and forge.process.stdout.readline() == "built\n", (
        forge.log.read_text()
    )
    for name, contract in CONTRACTS.items():
        write_contract(contract, forge.folder / name)
    return {name: forge.folder / name for name in MODELS}


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    """Writes a minimal project folder."""

    def make(name: str) -> Project:
        folder = tmp_path_factory.mktemp(name)
        data = "data: {spans: 'data/{SPAN}.csv', key: id}"
        settings = f"name: {name}\nlabel: label\n{data}\nserving: {{poll_seconds: 0.5}}\n"
        (folder / "project.yaml").write_text(settings)
        return load_project(folder)

    return make


@pytest.fixture(scope="session")
def serve_project(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Server]]:
    """Runs `serving.server.serve` in a process of its own, as `perennial serve` does.

    All are stopped at the end.
    """
    servers: list[Server] = []
    logs = tmp_path_factory.mktemp("logs")

    def serve(project: Project, port: int, grpc_port: int = 0) -> Server:
        log = logs / f"{len(servers)}.log"
        # KServe's own parser would refuse the arguments.
        command = [
            sys.executable,
            "-c",
            _SERVE,
            str(project.folder),
            str(port),
            str(grpc_port),
            "--http_port",
            "nonsense",
        ]
        with log.open("w") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, text=True, cwd=ROOT)
        servers.append(Server(process, f"http://127.0.0.1:{port}", log, f"127.0.0.1:{grpc_port}"))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def world(
    forge: Forge,
    request: pytest.FixtureRequest,
    make_project: Callable[[str], Project],
    serve_project: Callable[..., Server],
) -> World:
    """A project `tiny` with the versions registered, version 1 deployed, and its server."""
    from perennial.registry.versions import Candidate, Registry
    from perennial.storage.digests import digest_folder

    project = make_project("tiny")
    registry = Registry(project)  # takes seconds, while the models are being built
    tiny_models: dict[str, Path] = request.getfixturevalue("tiny_models")
    digests = {}
    for name in VERSIONS:
        digest = digest_folder(tiny_models[name])
        candidate = Candidate(tiny_models[name], digest, {}, {}, {}, {"run": name})
        digests[registry.register(candidate).version] = digest
    port, grpc_port = find_free_ports(2)
    world = World(project, Server.__new__(Server), digests)
    world.deploy("1")
    world.server = serve_project(project, port, grpc_port)
    world.server.wait_ready("/v2/models/tiny/ready")
    return world


@pytest.fixture
def version_1(world: World) -> World:
    """The world with version 1 serving."""
    world.serve_version("1")
    return world


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    (port,) = find_free_ports(1)
    return port
