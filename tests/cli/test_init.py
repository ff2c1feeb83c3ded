"""`perennial init` writes a project that is whole, keeps what is there, and whose README tells commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.cli.init import FILES, init_project
from perennial.cli.main import app
from perennial.cli.validate import validate_project
from perennial.errors import ProjectError
from perennial.project import load_project
from perennial.spans.landed import find_spans
from schemas.project import ProjectSettings

FENCE = re.compile(r"^( *)```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def shell_blocks(readme: str) -> list[str]:
    """The shell commands of a README, without the indentation of the list they stand in."""
    return [
        re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        for indent, text in FENCE.findall(readme)
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    init_project(tmp_path / "flowers")
    return tmp_path / "flowers"


def test_command_writes_every_file_and_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "new" / "flowers")])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "new" / "flowers").iterdir()) == sorted(FILES)
    assert [
        Path(line.removeprefix("wrote ")).name for line in done.output.split("\n") if line
    ] == list(FILES)


def test_what_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine, too")
    assert [path.name for path in init_project(tmp_path)] == [
        name for name in FILES if name != "model.py"
    ]
    assert (tmp_path / "model.py").read_text() == "mine"
    assert (tmp_path / "notes.txt").read_text() == "mine, too"


def test_twice_changes_nothing_and_says_so(project: Path) -> None:
    before = {path.name: path.read_bytes() for path in project.iterdir()}
    with pytest.raises(ProjectError, match=r"must lack a project's files.*perennial validate"):
        init_project(project)
    assert {path.name: path.read_bytes() for path in project.iterdir()} == before


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "flowers").write_text("")
    with pytest.raises(ProjectError, match=r"flowers must be a folder.*Received: a file"):
        init_project(tmp_path / "flowers")


def test_every_section_is_shown(project: Path) -> None:
    settings = load_project(project).settings
    assert settings.model_fields_set == set(ProjectSettings.model_fields)


def test_comments_are_the_only_prose_and_short(project: Path) -> None:
    lines = (project / "project.yaml").read_text().splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) <= 80


@pytest.mark.slow
def test_it_is_valid(project: Path) -> None:
    lines = list(validate_project(load_project(project)))
    assert any("predicts `species`" in line for line in lines)
    assert any("sepal_length, sepal_width, petal_length, petal_width" in line for line in lines)


def test_readme_lands_a_span_that_the_project_takes(project: Path) -> None:
    landing = next(
        block for block in shell_blocks((project / "README.md").read_text()) if "load_iris" in block
    )
    code = re.search(r"<<'EOF'\n(.*)^EOF", landing, re.MULTILINE | re.DOTALL)
    assert code
    subprocess.run([sys.executable, "-c", code[1]], cwd=project, check=True)
    loaded = load_project(project)
    (span,) = find_spans(project, loaded.settings.data.spans or "")
    assert span.name == "2026-01-01"
    assert columns_of(Path(span.uri)) == [feature.name for feature in loaded.schema.feature]
    assert [path.name for path in (project / "data").iterdir()] == ["2026-01-01.parquet"]


def columns_of(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def test_readme_names_commands_and_files_that_exist(project: Path) -> None:
    readme = (project / "README.md").read_text()
    commands = {
        command.callback.__name__ for command in app.registered_commands if command.callback
    }
    used = re.findall(r"^perennial (\w+)", "\n".join(shell_blocks(readme)), re.MULTILINE)
    assert used[:2] == ["validate", "run"]
    assert set(used) <= commands
    assert [name for name in FILES[:4] if f"`{name}`" not in readme] == []


def test_readme_asks_the_server_for_what_the_project_serves(project: Path) -> None:
    from perennial.schema.environments import serving_features

    readme, loaded = (project / "README.md").read_text(), load_project(project)
    (url,) = re.findall(r"http://127.0.0.1:(\d+)/v1/models/([a-z-]+):predict", readme)
    assert url == (str(loaded.settings.serving.port), loaded.settings.name)
    body = re.search(r"-d '(.*)'", readme)
    assert body
    (instance,) = json.loads(body[1])["instances"]
    assert list(instance) == serving_features(loaded.schema)
