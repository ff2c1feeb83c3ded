"""A person who has a message finds it on the page, with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from perennial.cli.init import init_project
from perennial.errors import PerennialError
from perennial.project import load_project
from perennial.storage.files import expand

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"


def sections() -> dict[str, list[str]]:
    """The rows of the page's tables, by the kind of error."""
    parts = re.split(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    rows = [re.findall(r"^\| (?!message|---)(.*?) \| ", body, re.MULTILINE) for body in parts[1::2]]
    return dict(zip(parts[::2], rows, strict=True))


def is_on_page(error: PerennialError) -> bool:
    """Whether a row says what the error says, with "…" for what is the project's."""
    message = " ".join(f"{error.where} {error.expected}".split())
    patterns = [re.escape(row).replace("…", ".*") for row in sections()[type(error).__name__]]
    # Rows of nothing but "…" would match everything.
    return any(re.fullmatch(each, message) for each in patterns if len(each) > len("must.*.*.*"))


def load_with(folder: Path, **settings: object) -> None:
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))
    load_project(folder)


@pytest.mark.parametrize(
    "make_error",
    [
        lambda folder: load_with(folder, gate={"marginn": 0.1}),
        lambda folder: load_project(folder / "nowhere"),
        lambda folder: load_with(folder, gate={"mode": "better", "margin": 0.1}),
        lambda folder: expand(str(folder / "missing.csv")),
    ],
    ids=["an unknown key", "no project", "settings that contradict each other", "a missing file"],
)
def test_message_is_found(make_error, tmp_path: Path) -> None:
    init_project(tmp_path / "flowers")
    with pytest.raises(PerennialError) as caught:
        make_error(tmp_path / "flowers")
    assert is_on_page(caught.value), str(caught.value)


def test_every_kind_of_error_that_is_raised_has_its_section() -> None:
    assert {"ProjectError", "DataError", "TrainingError", "RegistryError"} <= set(sections())
    assert all(sections().values())
