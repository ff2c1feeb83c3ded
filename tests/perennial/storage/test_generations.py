"""A value that changes: the newest generation counts, and of two writers one is told."""

from __future__ import annotations

import pytest

from perennial.storage.generations import Generation, Generations
from perennial.storage.objects import open_objects


@pytest.fixture
def machines(root):
    return [Generations(open_objects(root), "value") for _ in range(2)]


def test_the_newest_counts_and_older_ones_go(machines, root):
    one, other = machines
    assert one.newest() == Generation(0, b"")
    for data in (b"first", b"", b"third"):
        assert one.add(one.newest(), data)
        assert other.newest().data == data
    assert [each.name for each in open_objects(root).list("value")] == ["value/00000003.json"]


def test_of_two_who_change_it_at_once_the_first_wins(machines):
    one, other = machines
    before = other.newest()
    assert one.add(before, b"one") and not other.add(before, b"other")
    assert other.newest() == Generation(1, b"one")


def test_one_that_comes_much_later_is_told_too(machines, root):
    """The number that it would take was taken and is free again."""
    one, other = machines
    before = other.newest()
    for data in (b"first", b"second"):
        one.add(one.newest(), data)
    assert not other.add(before, b"late")
    assert other.newest() == Generation(2, b"second")
    assert len(list(open_objects(root).list("value"))) == 1


def test_what_a_killed_writer_left_goes_with_the_next(machines, root):
    one, _ = machines
    objects = open_objects(root)
    for number in (1, 2):
        objects.write_once(f"value/{number:08d}.json", b"%d" % number)
    assert one.newest() == Generation(2, b"2") and one.add(one.newest(), b"3")
    assert [each.name for each in objects.list("value")] == ["value/00000003.json"]
