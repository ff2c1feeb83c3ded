"""Checkpoints of a training: files of numbers and a text, each visible whole or not at all.

A folder belongs to one training: its name is a digest of everything that decides what the training
becomes. So a training that was killed finds its own checkpoints again, and never those of another.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.training.weights import Weights, load_weights, save_weights

# The newest, and one to go back to where a disk damaged it.
KEPT = 2
UNUSED_DAYS = 30.0
_TEXT = "progress"
_DAY = 86_400.0


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: its file, a text (JSON) and groups of arrays by name."""

    file: Path
    text: str
    groups: dict[str, Weights]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training, in a folder of their own below `root`."""

    root: Path
    key: str

    @property
    def folder(self) -> Path:
        """Gives the folder that they lie in."""
        return self.root / self.key

    def save(self, step: int, text: str, groups: Mapping[str, Mapping[str, Any]]) -> Path:
        """Writes the checkpoint of a global step and removes all but the newest; gives its file.

        Args:
            step: Global step, from 0; the newest checkpoint is the one with the greatest.
            text: What a reader needs beside the arrays.
            groups: Arrays by name, in groups whose names have no slash.
        """
        import numpy as np

        arrays: dict[str, Any] = {_TEXT: np.frombuffer(text.encode(), np.uint8)}
        for group, members in groups.items():
            arrays |= {f"{group}/{name}": array for name, array in members.items()}
        file = self.folder / f"step-{step:012d}.npz"
        save_weights(arrays, file)
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)
        return file

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Reads the newest checkpoint that can be read.

        Also gives what is wrong with the newer ones.
        """
        damaged = []
        for file in self._files():
            try:
                checkpoint = _parse(file, load_weights(file))
            except (OSError, ValueError) as error:
                damaged.append(f"checkpoint {file} was ignored, as it cannot be read: {error}")
                continue
            os.utime(self.folder)
            return checkpoint, damaged
        return None, damaged

    def remove(self) -> None:
        """Removes all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """Lists the files, the newest first.

        A file that a killed writer left unfinished has another name.
        """
        return sorted(self.folder.glob("step-*.npz"), reverse=True)


def prune_checkpoints(root: Path, days: float = UNUSED_DAYS) -> list[str]:
    """Removes the checkpoints of trainings that nobody went on with for so many days.

    Gives their keys.
    """
    oldest = time.time() - days * _DAY
    unused = [
        folder
        for folder in sorted(root.glob("*"))
        if folder.is_dir() and _last_used(folder) < oldest
    ]
    for folder in unused:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in unused]


def _last_used(folder: Path) -> float:
    times = []
    for path in (folder, *folder.iterdir()):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # another training has just removed it
            continue
    return max(times, default=time.time())


def _parse(file: Path, arrays: Weights) -> Checkpoint:
    """Takes the arrays of a file apart.

    Raises:
        ValueError: They are not those of a checkpoint.
    """
    if _TEXT not in arrays:
        raise ValueError(f"{file.name} is no checkpoint of a training")
    groups: dict[str, Weights] = {}
    for name, array in arrays.items():
        group, slash, member = name.partition("/")
        if slash:
            groups.setdefault(group, {})[member] = array
    return Checkpoint(file, arrays[_TEXT].tobytes().decode(), groups)
