"""Checkpoints of a training in the root: numbers and a text, each visible whole or not at all.

They are parts of unfinished work under a digest of everything that decides what the training
becomes. So a training that was killed finds its own checkpoints again, on whatever machine it is
repeated, and never those of another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.errors import LostError
from perennial.results.unfinished import UnfinishedWork
from perennial.training.weights import Weights, load_weights, write_weights

# The newest, and one to go back to where a disk damaged it.
KEPT = 2
# Of the time of a training, at most this share goes into checkpoints that travel over a network.
_SHARE = 1 / 20
_TEXT = "progress"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: its place, a text (JSON) and groups of arrays by name."""

    place: str
    text: str
    groups: dict[str, Weights]


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, work: UnfinishedWork) -> None:
        self._work = work
        self._parts: list[str] | None = None
        self._not_before = 0.0

    @property
    def place(self) -> str:
        """Gives the folder or URL that they lie in, to be shown."""
        return self._work.place

    def save(self, step: int, text: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes the checkpoint of a global step and removes all but the newest.

        Where the root is behind a network, one that would come too soon after the last is left out.

        Args:
            step: Global step, from 0; the newest checkpoint is the one with the greatest.
            text: What a reader needs beside the arrays.
            groups: Arrays by name, in groups whose names have no slash.
        """
        import numpy as np

        began = time.monotonic()
        if began < self._not_before:
            return
        arrays: dict[str, Any] = {_TEXT: np.frombuffer(text.encode(), np.uint8)}
        for group, members in groups.items():
            arrays |= {f"{group}/{name}": array for name, array in members.items()}
        part = f"step-{step:012d}.npz"
        self._work.write_file(part, lambda file: write_weights(arrays, file))
        parts = sorted({part, *self._list()}, reverse=True)
        for old in parts[KEPT:]:
            self._work.remove(old)
        self._parts = parts[:KEPT]
        if not self._work.is_near:
            now = time.monotonic()
            self._not_before = now + (now - began) / _SHARE

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Reads the newest checkpoint that can be read.

        Also gives what is wrong with the newer ones, which are removed.
        """
        damaged: list[str] = []
        for part in sorted(self._list(), reverse=True):
            place = f"{self._work.place}/{part}"
            try:
                with self._work.as_file(part) as file:
                    return _parse(place, load_weights(file)), damaged
            except (OSError, ValueError, LostError) as error:
                damaged.append(f"checkpoint {place} was ignored, as it cannot be read: {error}")
                self._work.remove(part)
        return None, damaged

    def remove(self) -> None:
        """Removes all of them."""
        self._work.remove_all()
        self._parts = []

    def _list(self) -> list[str]:
        if self._parts is None:
            self._parts = self._work.parts()
        return self._parts


def _parse(place: str, arrays: Weights) -> Checkpoint:
    """Takes the arrays of a file apart.

    Raises:
        ValueError: They are not those of a checkpoint.
    """
    if _TEXT not in arrays:
        raise ValueError("it is no checkpoint of a training")
    groups: dict[str, Weights] = {}
    for name, array in arrays.items():
        group, slash, member = name.partition("/")
        if slash:
            groups.setdefault(group, {})[member] = array
    return Checkpoint(place, arrays[_TEXT].tobytes().decode(), groups)
