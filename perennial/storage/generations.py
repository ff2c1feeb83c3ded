"""A value that changes, on objects that are written once: numbered generations, the newest counts.

    <folder>/<number>.json

Of two who change it at once the first wins, and the other is told: its number is taken.
"""

from __future__ import annotations

from typing import NamedTuple

from perennial.storage.objects import Objects

_DIGITS = 8


class Generation(NamedTuple):
    """One generation: its number, from 1, and its bytes; before the first one 0 and none."""

    number: int
    data: bytes


class Generations:
    """The generations of one value.

    Args:
        objects: The store.
        folder: Their folder in it, which holds nothing else.

    Raises:
        StoreError: Any method: the store cannot be reached, or refuses.
    """

    def __init__(self, objects: Objects, folder: str) -> None:
        self._objects, self._folder = objects, folder

    @property
    def place(self) -> str:
        """Gives the folder or URL that they lie in, to be shown."""
        return f"{self._objects.location.rstrip('/')}/{self._folder}"

    def newest(self) -> Generation:
        """Reads the newest generation."""
        while listed := sorted(self._objects.list(self._folder)):
            data = self._objects.read(listed[-1].name) if listed[-1].size else b""
            if data is not None:  # else a newer one has just taken its place
                return Generation(_number(listed[-1].name), data)
        return Generation(0, b"")

    def add(self, after: Generation, data: bytes) -> bool:
        """Writes the next generation, and removes those before; tells whether it did.

        It does not where there is a newer one than was read.
        """
        name = self._name(after.number + 1)
        if not self._objects.write_once(name, data):
            return False
        names = self._names()
        if names[-1] > name:  # its number was taken, and is free because a newer one took its place
            self._objects.delete(name)
            return False
        for older in names[: names.index(name)]:
            self._objects.delete(older)
        return True

    def _names(self) -> list[str]:
        return sorted(each.name for each in self._objects.list(self._folder))

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:0{_DIGITS}d}.json"


def _number(name: str) -> int:
    return int(name.rpartition("/")[2].removesuffix(".json"))
