"""Tells what the tests of each folder took, against what they may take, and which files start first."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("budget.toml")


class Budget:
    """A plugin of pytest.

    Orders the files, adds up the seconds of each folder and of each file that has a budget of its
    own, and prints them at the end.
    """

    def __init__(self) -> None:
        settings = tomllib.loads(FILE.read_text())
        self.allowed: dict[str, int] = settings["seconds"]
        self.first: list[str] = settings["order"]["first"]
        self.taken: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Puts the files that take longest first; the order within a file stays."""
        places = {name: place for place, name in enumerate(self.first)}
        items.sort(key=lambda item: places.get(file_of(item.nodeid), len(places)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds what the set-up, the call or the tear-down of a test took."""
        file = file_of(report.nodeid)
        place = file if file in self.allowed else folder_of(report.nodeid)
        self.taken[place] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints a line for each folder, and a warning for each that is over."""
        if not self.taken:
            return
        terminalreporter.section("seconds of each folder, over all workers")
        for folder, seconds in sorted(self.taken.items()):
            allowed = self.allowed.get(folder)
            may = "has no budget" if allowed is None else f"may take {allowed} s"
            terminalreporter.write_line(f"{seconds:7.0f} s  {folder} ({may})")
        for line in self.overruns():
            terminalreporter.write_line(f"warning: {line}", yellow=True)

    def overruns(self) -> list[str]:
        """A sentence for each folder that took longer than it may."""
        over = {folder: self.taken[folder] - allowed for folder, allowed in self.allowed.items()}
        return [
            f"{folder} took {self.taken[folder]:.0f} s, {seconds:.0f} s more than {FILE.name} "
            "allows"
            for folder, seconds in over.items()
            if seconds > 0
        ]


def file_of(nodeid: str) -> str:
    """The path of a test's file, from the root of the repository."""
    return nodeid.partition("::")[0]


def folder_of(nodeid: str) -> str:
    """The folder that a test's seconds are added to, such as `tests/cli`."""
    return "/".join(nodeid.split("/")[:2])
