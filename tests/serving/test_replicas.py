"""Several servers of one project follow its ledger on PostgreSQL, as the replicas of a cluster do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perennial.processes import find_free_ports
from perennial.project import Project, load_project
from tests.perennial.postgres import Postgres

from .conftest import Server, World

PERENNIAL = Path(sys.executable).with_name("perennial")


@pytest.fixture
def replicas(
    world: World, make_project: Callable[[str], Project], postgres: Postgres, tmp_path: Path
) -> Iterator[list[World]]:
    """Two servers, started by the command; they share the ledger and the registry alone."""
    project = make_project("tiny")
    with (project.folder / "project.yaml").open("a") as settings:
        settings.write(f"ledger: {{url: '{postgres.new_ledger()}'}}\n")
        settings.write(f"registry: {{uri: 'sqlite:///{world.project.state / 'registry.db'}'}}\n")
    project = load_project(project.folder)
    World(project, Server.__new__(Server), world.digests).deploy("1")
    servers = []
    try:
        for port in find_free_ports(2):
            log = tmp_path / f"{port}.log"
            command = [PERENNIAL, "serve", project.folder, "--port", str(port)]
            with log.open("w") as stream:
                process = subprocess.Popen(command, stdout=stream, stderr=stream, text=True)
            servers.append(Server(process, f"http://127.0.0.1:{port}", log))
        for server in servers:
            server.wait_ready("/v2/models/tiny/ready")
        yield [World(project, server, world.digests) for server in servers]
    finally:
        for server in servers:
            server.stop()


def test_every_replica_follows_a_promotion_and_a_rollback(replicas: list[Any]) -> None:
    first, second = replicas
    assert [each.serving_version() for each in replicas] == ["1", "1"]
    for version in ("2", "1"):
        deployed = first.deploy(version)
        for each in (second, first):
            each.wait_for(version, deployed)
