"""What the README shows of the demo is what the demo drew when it ran last, and of the pipeline as it is now."""

from __future__ import annotations

import html
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "pipelines" / "compiled" / "continuous_training.yaml"


def drawn_text() -> str:
    """The text of the picture, with single spaces."""
    svg = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8")
    pieces = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return " ".join(html.unescape(" ".join(pieces)).split())


def test_lines_of_the_readme_stand_in_the_picture_in_order() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"docs/demo\.svg.*?```text\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    assert 0 < len(lines) <= 15
    text, place = drawn_text(), 0
    for line in lines:
        wanted = " ".join(line.split())
        assert wanted in text[place:], line
        place = text.index(wanted, place) + len(wanted)


def test_picture_shows_every_step_of_the_pipeline_and_no_other() -> None:
    spec = yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))
    executors = spec["deploymentSpec"]["executors"]
    steps = {name.removeprefix("exec-").rstrip("-0123456789").replace("-", "_") for name in executors}
    shown = set(re.findall(r"[✓=✗] (\w+)", drawn_text()))
    assert shown == steps
