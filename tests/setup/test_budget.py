"""The tests' own budget: every folder and file that it names is there, and what is over is told."""

from __future__ import annotations

from pathlib import Path

from tests.budget import Budget

ROOT = Path(__file__).parents[2]


def test_every_folder_of_tests_has_a_budget_and_every_file_that_starts_first_exists() -> None:
    budget = Budget()
    folders = {f"tests/{path.parts[-2]}" for path in (ROOT / "tests").glob("*/test_*.py")} | {
        "tests/components"
    }
    files = [name for name in budget.allowed if name.endswith(".py")]
    assert folders == budget.allowed.keys() - {*files}
    assert [name for name in [*files, *budget.first] if not (ROOT / name).is_file()] == []


def test_a_folder_that_takes_longer_than_it_may_is_told() -> None:
    budget = Budget()
    budget.taken["tests/cli"] = budget.allowed["tests/cli"] + 30
    budget.taken["tests/setup"] = budget.allowed["tests/setup"]
    allowed = budget.allowed["tests/cli"]
    assert budget.overruns() == [
        f"tests/cli took {allowed + 30} s, 30 s more than budget.toml allows"
    ]
