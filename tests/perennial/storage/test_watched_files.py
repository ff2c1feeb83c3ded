"""Unlabelled files: which there are, and that their fingerprint changes exactly when they do."""

from __future__ import annotations

import os

import pytest

from perennial.storage.files import find_files
from perennial.storage.fingerprints import memo_in
from perennial.storage.watched_files import UNLABELLED_MEMO, unlabelled_fingerprint
from tests.perennial.folders import make_project


@pytest.fixture
def project(tmp_path):
    """A project whose pretraining reads two files."""
    project = make_project(
        tmp_path / "digits",
        data={"unlabelled": "new/{YYYY}-{MM}.csv"},
        pretext={"task": "rotation"},
    )
    (project.folder / "new").mkdir()
    for name in ("2026-02.csv", "2026-01.csv", "notes.txt"):
        (project.folder / "new" / name).write_text(f"image\n{name}\n")
    return project


def test_files_are_ordered_by_name(project):
    found = find_files(project.folder, "new/{YYYY}-{MM}.csv")
    assert found == [str(project.folder / "new" / name) for name in ("2026-01.csv", "2026-02.csv")]
    assert find_files(project.folder, str(project.folder / "new" / "*.txt")) == [
        str(project.folder / "new" / "notes.txt")
    ]
    assert find_files(project.folder, f"file://{project.folder}/new/*-01.csv") == found[:1]
    assert find_files(project.folder, "nowhere/*.csv") == []


def test_fingerprint_changes_with_the_files(project):
    folder, first = project.folder / "new", unlabelled_fingerprint(project)
    assert unlabelled_fingerprint(project) == first
    (folder / "notes.txt").write_text("not among them")
    assert unlabelled_fingerprint(project) == first

    (folder / "2026-03.csv").write_text("image\n")
    more = unlabelled_fingerprint(project)
    (folder / "2026-03.csv").write_text("image\n1\n")
    changed = unlabelled_fingerprint(project)
    os.rename(folder / "2026-03.csv", folder / "2026-04.csv")
    assert len({first, more, changed, unlabelled_fingerprint(project)}) == 4
    (folder / "2026-04.csv").unlink()
    assert unlabelled_fingerprint(project) == first


def test_no_files_are_no_fault(project):
    found = unlabelled_fingerprint(project)
    for path in (project.folder / "new").iterdir():
        path.unlink()
    assert unlabelled_fingerprint(project) not in ("", found)


def test_file_that_cannot_be_read_is_no_fault(project):
    found = unlabelled_fingerprint(project)
    broken = project.folder / "new" / "2026-05.csv"
    broken.symlink_to(broken)  # a link in a circle
    (project.folder / "new" / "2026-02.csv").unlink()
    assert unlabelled_fingerprint(project) not in ("", found)


def test_nothing_is_read_where_pretraining_reads_nothing(tmp_path):
    for number, changes in enumerate(
        ({"pretext": {"task": "rotation"}}, {"data": {"unlabelled": "new/*.csv"}})
    ):
        project = make_project(tmp_path / str(number), **changes)
        assert unlabelled_fingerprint(project) == ""
        assert memo_in(project.root, UNLABELLED_MEMO).newest().number == 0
