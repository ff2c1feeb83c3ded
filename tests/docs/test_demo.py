"""The README's picture of the demo, and its excerpt of it: both are what the demo printed."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import yaml

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "demo.svg"
GOLDEN = ROOT / "pipelines" / "compiled" / "digits.yaml"


def picture_lines():
    """The lines of the terminal, as a person reads them."""
    lines: dict[float, str] = {}
    for element in ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text"):
        if element.get("clip-path"):  # all but the title
            height = float(element.get("y", 0))
            lines[height] = lines.get(height, "") + "".join(element.itertext()).replace("\xa0", " ")
    return [" ".join(line.split()) for _, line in sorted(lines.items())]


def readme_excerpt():
    """The lines of the README's block of text after its picture.

    "…" stands for what was left out.
    """
    _, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("](docs/demo.svg)")
    _, _, rest = rest.partition("```text\n")
    block, _, _ = rest.partition("\n```")
    return [" ".join(line.split()) for line in block.splitlines() if line and line != "…"]


def lines_missing(excerpt, printed):
    """The lines of the excerpt that are not printed, or not in this order."""
    left = iter(printed)
    missing = []
    for line in excerpt:
        before = list(left)
        if line in before:
            left = iter(before[before.index(line) + 1 :])
        else:
            missing.append(line)
            left = iter(before)
    return missing


def test_readme_shows_what_the_demo_printed():
    excerpt = readme_excerpt()
    assert 10 <= len(excerpt) <= 15
    assert lines_missing(excerpt, picture_lines()) == []


def test_a_line_that_was_not_printed_is_found():
    printed = picture_lines()
    first, last = printed[0], printed[-1]
    assert lines_missing([last, first], printed) == [first]  # it is not after the other
    assert lines_missing([first, "promoted version 99", last], printed) == ["promoted version 99"]


def test_picture_shows_the_steps_of_the_pipeline():
    executors = next(yaml.load_all(GOLDEN.read_text(encoding="utf-8"), yaml.CSafeLoader))[
        "deploymentSpec"
    ]["executors"]
    steps = {
        re.sub(r"-\d+$", "", name.removeprefix("exec-")).replace("-", "_") for name in executors
    }
    shown = {name for line in picture_lines() for name in re.findall(r"[✓=✗] (\w+)", line)}
    assert shown == steps


def test_picture_loads_nothing():
    text = PICTURE.read_text(encoding="utf-8")
    addresses = re.findall(r"https?://[^\s\"'<)]+", text)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
    assert "url(http" not in text and "@import" not in text
