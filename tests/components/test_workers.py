"""Beam's workers in processes of their own, which share the root with a step and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from perennial.data.distributions import read_distributions
from perennial.data.statistics import read_statistics
from perennial.processes import find_free_ports
from schemas.records import Ingestion
from tests.chain import QUICK, with_module
from tests.components.worker_jobs import fail_elsewhere, records_of, use_elsewhere
from tests.forked import forked
from tests.perennial.folders import make_project

# An operation of the function that fails on the data, in a worker.
BROKEN = (
    'return {"pixels": tft.scale_to_z_score(inputs["image"])}',
    "import tensorflow as tf\n\n"
    '    pixels = tft.scale_to_z_score(inputs["image"])\n'
    '    return {"pixels": tf.strings.to_number(tf.strings.as_string(pixels) + "?")}',
)


@pytest.fixture
def job_service(tmp_path, s3):
    """Beam's job service, a process whose workers are processes of their own."""
    (port,) = find_free_ports(1)
    with (tmp_path / "service.log").open("w") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "tests.beam_service", str(port)],
            env={**os.environ, **s3.environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    yield f"127.0.0.1:{port}"
    service.kill()
    service.wait()


def test_workers_elsewhere_make_what_workers_here_make(
    chain, s3, job_service, tmp_path, monkeypatch
):
    for variable, value in s3.environment.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "workers").mkdir()
    worker = f"{sys.executable} -m tests.beam_worker {tmp_path / 'workers'}"
    options = [
        f"--job_endpoint={job_service}",
        "--environment_type=beam:env:harness_subprocess_python:v1",
        f"--environment_config={worker}",
    ]
    root = s3.new_root()
    project = make_project(
        tmp_path / "project",
        root=root,
        data={"spans": f"{root}/landed/{{SPAN}}.csv"},
        beam={"runner": "PortableRunner", "options": options},
        **QUICK,
    )
    span = chain.selection.window[0]
    landed = f"{root}/landed/{Path(span.uri).name}"
    _put(Path(span.uri), landed)
    made = {"window": chain.window, "graph": chain.graph}
    elsewhere = span.model_copy(update={"uri": landed})
    results = forked(use_elsewhere, project, elsewhere, made, tmp_path, s3.environment)

    # The step had no example in hand, and left nothing behind.
    assert not any(results.values())
    worked = [file for file in (tmp_path / "workers").iterdir() if file.is_file()]
    assert len(worked) == 3 * 2  # pipelines, and workers of each
    here, there = chain.examples(span.name), tmp_path / "examples"
    assert forked(records_of, there) == forked(records_of, here)
    same = {"exclude": {"span"}}
    assert Ingestion.read(there).model_dump(**same) == Ingestion.read(here).model_dump(**same)
    for file in ("row_keys.npy", "set_aside.jsonl"):
        assert (there / file).read_bytes() == (here / file).read_bytes()
    here, there = chain.statistics(span.name), tmp_path / "statistics"
    assert _rounded(read_statistics(there)) == _rounded(read_statistics(here))
    assert _plain(read_distributions(there)) == _plain(read_distributions(here))
    features = forked(records_of, tmp_path / "features")
    assert features == forked(records_of, chain.features)
    assert set(features) == {"train", "eval"} and all(features.values())

    broken = with_module(project, *BROKEN)
    message = forked(fail_elsewhere, broken, chain.window, tmp_path, s3.environment)
    lines = broken.module_path.read_text().splitlines()
    line = 1 + next(number for number, each in enumerate(lines) if "to_number" in each)
    assert message.startswith(f"model.py:{line}: preprocessing_fn must run on the data. Received: ")
    assert "could not correctly convert string" in message and len(message.splitlines()) == 1


def _rounded(statistics):
    """The statistics but for the last digits of what depends on the order of a sum."""
    for feature in statistics.datasets[0].features:
        numbers = feature.num_stats
        numbers.mean, numbers.std_dev = (
            float(f"{n:.12g}") for n in (numbers.mean, numbers.std_dev)
        )
    return statistics


def _plain(distributions):
    """Distributions as what can be compared, values that were counted in no order."""
    return {
        name: {
            field: value.tolist() if isinstance(value, np.ndarray) else value
            for field, value in vars(distribution).items()
        }
        for name, distribution in distributions.items()
    }


def _put(file: Path, url: str) -> None:
    import fsspec

    with fsspec.open(url, "wb") as target:
        target.write(file.read_bytes())
