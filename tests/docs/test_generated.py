"""The pages that are made from the code are what the code says now."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from schemas.project import ProjectSettings

ROOT = Path(__file__).resolve().parents[2]
GENERATE = ROOT / "docs" / "generate.py"


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GENERATE), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_quick_pages_are_current() -> None:
    done = generate("--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_record_is_current() -> None:
    done = generate("--check", "one-record")
    assert done.returncode == 0, done.stderr


def test_a_stale_page_is_named(tmp_path: Path) -> None:
    stale = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); sys.argv[1:2] = "
        "['--check'];"
        "import generate; generate.PAGES['cli'] = generate.Page('docs/cli.md', lambda: 'other');"
        "sys.exit(generate.main())"
    )
    command = [sys.executable, "-c", stale, str(GENERATE.parent)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "docs/cli.md must be what the code says. Received: an older text. Run `python "
        "docs/generate.py cli`.\n"
    )


def test_an_unknown_name_is_refused() -> None:
    done = generate("nothing")
    assert done.returncode == 2
    assert (
        "NAME must be one of cli, settings, features, schema, architecture, troubleshooting, pipeline, one-record. Received: nothing"
        in done.stderr
    )


def test_quick_pages_import_nothing_heavy() -> None:
    code = (
        "import sys; sys.path.insert(0, 'docs'); import generate as g; [p.make() for p in "
        "g.PAGES.values() if p.quick];"
    )
    heavy = "print([m for m in ('tensorflow', 'apache_beam', 'kfp', 'mlflow') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + heavy], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_schema_describes_every_setting() -> None:
    schema = json.loads((ROOT / "schemas" / "project.schema.json").read_text(encoding="utf-8"))
    sections = [schema, *schema["$defs"].values()]
    assert len(sections) == 1 + len(schema["$defs"])
    for section in sections:
        assert section["additionalProperties"] is False
        for name, value in section["properties"].items():
            assert "description" in value or "$ref" in value, name


@pytest.mark.parametrize(
    "project", sorted(ROOT.glob("examples/*/project.yaml")), ids=lambda path: path.parent.name
)
def test_examples_name_the_schema(project: Path) -> None:
    named = re.match(
        r"# yaml-language-server: \$schema=(\S+)\n", project.read_text(encoding="utf-8")
    )
    assert named
    assert (project.parent / named[1]).resolve() == ROOT / "schemas" / "project.schema.json"
    assert ProjectSettings.model_validate(yaml.safe_load(project.read_text(encoding="utf-8")))
