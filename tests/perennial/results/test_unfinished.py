"""Unfinished work: its parts are there for whoever goes on, until they are removed."""

from __future__ import annotations

from perennial.results.unfinished import SavedFolder, UnfinishedWork
from perennial.storage.objects import open_objects


def make_work(root, key="key"):
    return UnfinishedWork(root, "step", key)


def test_parts_are_found_in_their_order_by_another_machine(root):
    work = make_work(root)
    for part in ("2", "1"):
        work.write(part, part.encode())
    work.write("1", b"another attempt's")
    work.write_file("3", lambda file: file.write_bytes(b"3"))
    other = make_work(root)
    assert [other.read(part) for part in other.parts()] == [b"1", b"2", b"3"]
    with other.as_file("3") as file:
        assert file.read_bytes() == b"3"
    assert make_work(root, "other").parts() == []


def test_what_is_removed_is_gone_for_all(root):
    work, other = make_work(root), make_work(root, "other")
    for part in ("1", "2", "3"):
        work.write(part, b"")
    other.write("1", b"")
    work.remove("2")
    assert work.parts() == ["1", "3"]
    work.remove_all()
    work.remove_all()
    assert work.parts() == [] and other.parts() == ["1"]
    other.remove("1")
    assert list(open_objects(root).list("unfinished")) == []


def test_a_folder_comes_back_as_it_was_saved_last(root, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "trial").mkdir(parents=True)
    second.mkdir()
    saved = SavedFolder(make_work(root), first)
    saved.restore()
    (first / "oracle.json").write_text("one trial")
    (first / "trial" / "weights").write_bytes(b"w" * 1000)
    saved.save()
    (first / "oracle.json").write_text("two trials")
    saved.save()
    (first / "oracle.json").write_text("not saved")
    again = SavedFolder(make_work(root), second)
    again.restore()
    assert (second / "oracle.json").read_text() == "two trials"
    assert (second / "trial" / "weights").read_bytes() == b"w" * 1000
    again.save()
    parts = make_work(root).parts()
    assert [part for part in parts if part.startswith("folder-")] == ["folder-00003.json"]
    assert len(parts) == 4, "each content once"


def test_a_folder_whose_removal_was_cut_short_is_empty(root, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    for name in ("a", "b"):
        (tmp_path / "first" / name).write_text(name)
    SavedFolder(make_work(root), tmp_path / "first").save()
    work = make_work(root)
    work.remove(next(part for part in work.parts() if part.startswith("files/")))
    SavedFolder(work, tmp_path / "second").restore()
    assert list((tmp_path / "second").iterdir()) == []
