"""What a project's digests cover: a change is seen where it matters, and only there."""

from __future__ import annotations

import subprocess

import pytest

from perennial.errors import ProjectError
from perennial.package.publish import publish_package
from perennial.project import load_project
from perennial.project_checks import check_definition
from tests.perennial.folders import make_project

NONE, DATA, CHECKS, PROJECT = set(), {"data"}, {"checks"}, {"project"}


def _digests(project):
    return {
        "data": project.digest_of("ingest_examples"),
        "checks": project.digest_of("check_examples") + project.digest_of("validate_data"),
        "project": project.project_digest(),
    }


@pytest.mark.parametrize(
    "changes, seen",
    [
        ({"serving": {"port": 9}}, NONE),
        ({"state": "elsewhere"}, NONE),
        ({"beam": {"options": []}}, NONE),
        ({"train": {"epochs": 3}}, PROJECT),
        ({"gate": {"floors": {"accuracy": 0.1}}}, PROJECT),
        ({"data": {"window": 3}}, PROJECT),
        ({"data": {"splits": {"train": 0.8, "eval": 0.1, "test": 0.1}}}, DATA | PROJECT),
        ({"data": {"key": "date"}}, DATA | CHECKS | PROJECT),
        ({"label": "id"}, DATA | CHECKS | PROJECT),
    ],
)
def test_settings(tmp_path, changes, seen):
    before, after = (
        _digests(make_project(tmp_path / "a")),
        _digests(make_project(tmp_path / "b", **changes)),
    )
    assert {name for name in before if before[name] != after[name]} == seen


@pytest.mark.parametrize(
    "name, seen",
    [
        ("model.py", PROJECT),
        ("schema.pbtxt", CHECKS | PROJECT),
        ("expectations.json", CHECKS | PROJECT),
        ("land.py", NONE),
    ],
)
def test_files(tmp_path, name, seen):
    project = make_project(tmp_path / "a")
    before = _digests(project)
    path = project.folder / name
    path.write_text(path.read_text() + "\n")
    after = _digests(load_project(project.folder))
    assert {name for name in before if before[name] != after[name]} == seen


def test_place_does_not_matter(tmp_path):
    assert _digests(make_project(tmp_path / "a")) == _digests(make_project(tmp_path / "b"))


def test_git_commit_of_the_folder(tmp_path):
    project = make_project(tmp_path / "a")
    git = ["git", "-C", str(project.folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert project.git_commit() is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    commit = project.git_commit()
    assert commit is not None and len(commit) == 40


@pytest.mark.parametrize(
    "text",
    [
        "import helper\n",
        "def late():\n    from helper import A\n",
        'WORDS = "words.txt"\n',
        'WORDS = "words/en.txt"\n',
        'WORDS = ("words", "en.txt")\n',
    ],
)
def test_files_beside_the_module_count_where_it_names_them(tmp_path, text):
    """In the folder, and in its package."""
    project = make_project(tmp_path / "a")
    (project.folder / "words").mkdir()
    for name in ("helper.py", "words.txt", "words/en.txt"):
        (project.folder / name).write_text("A = 1\n")
    unnamed = _digests(project)
    module = project.module_path
    module.write_text(f"{module.read_text()}\n{text}")
    before = load_project(project.folder).digest_of("train_model")
    packaged = load_project(str(publish_package(load_project(project.folder)).reference))
    assert packaged.digest_of("train_model") == before
    for name in ("helper.py", "words.txt", "words/en.txt"):
        (project.folder / name).write_text("A = 2\n")
    after = load_project(project.folder)
    assert after.digest_of("train_model") != before
    assert _digests(after)["data"] == unnamed["data"]


def test_files_that_the_settings_name_count_where_the_module_computes_their_names(tmp_path):
    """In the folder, and in its package; a pattern that names none is refused."""
    project = make_project(tmp_path / "a", model={"files": ["words-*.txt"]})
    with pytest.raises(ProjectError, match=r"model\.files\[0\] must name files beside the module"):
        check_definition(project)
    words = project.folder / "words-en.txt"
    words.write_text("one")
    check_definition(project)
    before = _digests(project)
    packaged = load_project(str(publish_package(load_project(project.folder)).reference))
    assert packaged.digest_of("train_model") == project.digest_of("train_model")
    trained = project.digest_of("train_model")
    words.write_text("two")
    assert project.digest_of("train_model") != trained
    assert _digests(project)["data"] == before["data"]


def test_landed_data_counts_nowhere_though_the_module_names_its_folder(tmp_path):
    project = make_project(tmp_path / "a")
    (project.folder / "data").mkdir(exist_ok=True)
    module = project.module_path
    module.write_text(module.read_text() + '\nNAME = "data"\n')
    before = _digests(load_project(project.folder))
    (project.folder / "data" / "2026-01-09.parquet").write_text("landed")
    assert _digests(load_project(project.folder)) == before
