"""Publication is atomic, and a digest vouches for every name and every byte."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import IntegrityError
from perennial.storage import atomic
from perennial.storage.atomic import link_tree, publish_folder, publish_text
from perennial.storage.digests import digest_folder, digest_value, verify_folder

FORK = multiprocessing.get_context("fork")
NAMES = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True)
FOLDERS = st.dictionaries(NAMES, st.binary(max_size=20), min_size=1, max_size=4).filter(
    lambda files: not any(other.startswith(f"{name}/") for name in files for other in files)
)


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _digest(files: dict[str, bytes]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return digest_folder(_write(Path(folder), files))


@given(FOLDERS, FOLDERS)
def test_two_folders_have_one_digest_only_when_they_are_the_same(one, other):
    assert (_digest(one) == _digest(other)) == (one == other)


@given(FOLDERS, st.data())
def test_any_change_of_a_file_is_refused(files, data):
    name = data.draw(st.sampled_from(sorted(files)))
    with tempfile.TemporaryDirectory() as folder:
        path = _write(Path(folder), files)
        digest = digest_folder(path)
        verify_folder(path, digest)
        change = data.draw(st.sampled_from(["bytes", "name", "extra"]))
        if change == "bytes":
            (path / name).write_bytes(files[name] + b"!")
        elif change == "name":
            (path / name).rename(path / "renamed")
        else:
            (path / "extra").write_bytes(b"")
        with pytest.raises(IntegrityError, match=digest):
            verify_folder(path, digest)


def test_an_empty_folder_has_nothing_to_vouch_for(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(IntegrityError, match="no file"):
        digest_folder(tmp_path)


def test_digest_of_a_value_does_not_depend_on_the_order_of_keys():
    assert (
        digest_value({"a": 1, "b": [2]})
        == digest_value({"b": [2], "a": 1})
        != digest_value({"a": 1, "b": [3]})
    )


def test_text_is_replaced_and_nothing_else_is_left(tmp_path):
    publish_text("one", tmp_path / "sub" / "a.txt")
    publish_text("two: Größe", tmp_path / "sub" / "a.txt")
    assert (tmp_path / "sub" / "a.txt").read_text(encoding="utf-8") == "two: Größe"
    assert os.listdir(tmp_path / "sub") == ["a.txt"]


def test_text_that_cannot_be_written_leaves_what_was_there(tmp_path):
    publish_text("before", tmp_path / "a.txt")
    with pytest.raises(UnicodeEncodeError):
        publish_text("no UTF-8: \ud800", tmp_path / "a.txt")
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "before"


def test_a_reader_sees_the_text_whole_at_every_moment(tmp_path):
    path, texts = tmp_path / "a.txt", [letter * 200_000 for letter in "ab"]
    publish_text(texts[0], path)
    writer = FORK.Process(target=_publish_often, args=(texts, path))
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(path.read_text())
    writer.join()
    assert seen <= set(texts)


def _publish_often(texts, path):
    for turn in range(40):
        publish_text(texts[turn % 2], path)


def test_folder_is_visible_only_when_it_is_whole(tmp_path, monkeypatch):
    source, destination = (
        _write(tmp_path / "source", {"a": b"1", "b": b"2"}),
        tmp_path / "out" / "digest",
    )
    visible = []
    monkeypatch.setattr(atomic.shutil, "copytree", _watched(shutil.copytree, visible, destination))
    publish_folder(source, destination)
    assert visible == [False, False]
    assert digest_folder(destination) == digest_folder(source)
    assert os.listdir(tmp_path / "out") == ["digest"]


def _watched(copytree, visible, destination):
    def copied(source, aside, **options):
        visible.append(destination.exists())
        copytree(source, aside, **options)
        visible.append(destination.exists())

    return copied


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_folder_that_cannot_be_copied_leaves_nothing(tmp_path, monkeypatch, error):
    source = _write(tmp_path / "source", {"a": b"1"})

    def broken(*_, **__):
        raise error

    monkeypatch.setattr(atomic.shutil, "copytree", broken)
    with pytest.raises(type(error)):
        publish_folder(source, tmp_path / "out" / "digest")
    assert os.listdir(tmp_path / "out") == []


def test_folder_that_another_process_published_first_is_kept(tmp_path, monkeypatch):
    source, destination = _write(tmp_path / "source", {"a": b"1"}), tmp_path / "out" / "digest"

    def overtaken(*arguments, **options):
        shutil.copytree(*arguments, **options)
        _write(destination, {"a": b"1"})

    monkeypatch.setattr(atomic.shutil, "copytree", _once(overtaken, monkeypatch))
    publish_folder(source, destination)
    assert os.listdir(tmp_path / "out") == ["digest"] and (destination / "a").read_bytes() == b"1"


def _once(function, monkeypatch):
    def called(*arguments, **options):
        monkeypatch.undo()
        return function(*arguments, **options)

    return called


def test_linked_tree_has_the_same_bytes_and_takes_no_space(tmp_path):
    source = _write(tmp_path / "source", {"a": b"1", "b/c": b"2"})
    link_tree(source, tmp_path / "copy")
    assert digest_folder(tmp_path / "copy") == digest_folder(source)
    assert (tmp_path / "copy" / "a").stat().st_ino == (source / "a").stat().st_ino
