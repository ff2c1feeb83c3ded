"""Prints the part of requirements.lock that runs, without the development tools.

    python runtime_lock.py requirements.in requirements.lock [tensorflow-cpu.lock]

Resolves nothing: the lock's own `# via` lines tell what asks for what, so the image holds the very
versions and hashes that the tests ran with. A third file is the lock of another build of
TensorFlow, which takes the place of the lock's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

TOOLS_HEADING = "# Development tools."
# What packages declare and nothing that runs loads.
LEFT_OUT = {"libclang"}  # TensorFlow names it; 64 MB that only building its own sources reads
TENSORFLOW = "tensorflow"


@dataclass(frozen=True)
class Entry:
    """A version of a package in the lock: its lines, and what asks for it."""

    name: str
    text: str
    parents: Collection[str]


def main(requirements: str, lock: str, build: str | None = None) -> None:
    """Prints the entries that what runs needs."""
    wanted = read_names(Path(requirements).read_text(encoding="utf-8").split(TOOLS_HEADING)[0])
    entries = read_entries(Path(lock).read_text(encoding="utf-8"))
    needed = find_needed(wanted, entries)
    if build is not None:
        entries = [*(entry for entry in entries if entry.name != TENSORFLOW), *_read_build(build)]
    print("".join(entry.text for entry in entries if entry.name in needed), end="")


def _read_build(lock: str) -> list[Entry]:
    """Reads another build of TensorFlow, as an entry of that name."""
    entries = read_entries(Path(lock).read_text(encoding="utf-8"))
    return [Entry(TENSORFLOW, entry.text, entry.parents) for entry in entries]


def read_names(requirements: str) -> set[str]:
    """Gives the names of the packages that requirements ask for, in their normal form."""
    return {_normal(name) for name in re.findall(r"^[A-Za-z0-9][\w.-]*", requirements, re.M)}


def read_entries(lock: str) -> list[Entry]:
    """Reads the lock, in which a package has a version for each range of Pythons."""
    entries = []
    for text in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.M)[1:]:
        _, _, via = text.partition("# via")
        parents = [line.strip(" #") for line in via.splitlines()]
        entries.append(
            Entry(_normal(text.partition("==")[0]), text, [name for name in parents if name])
        )
    return entries


def find_needed(wanted: Collection[str], entries: Sequence[Entry]) -> set[str]:
    """Gives the packages that were asked for, and what these ask for in turn."""
    needed: set[str] = set()
    while True:
        more = {
            entry.name
            for entry in entries
            if entry.name not in needed | LEFT_OUT
            and (entry.name in wanted or needed.intersection(entry.parents))
        }
        if not more:
            return needed
        needed |= more


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(*sys.argv[1:])
