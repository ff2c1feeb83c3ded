"""The picture of the compiled pipeline shows the pipeline that is compiled now."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from pipeline_graph import digest, graph  # noqa: E402


def picture() -> str:
    return (ROOT / "docs" / "pipeline.svg").read_text(encoding="utf-8")


def test_picture_is_of_the_compiled_pipeline() -> None:
    assert digest(graph()) in picture(), "Run `python docs/generate.py pipeline`."


def test_picture_has_every_step_of_the_digits_example() -> None:
    titles = {unescape(title) for title in re.findall(r"<title>([^<]*)</title>", picture())}
    compiled = (ROOT / "pipelines" / "compiled" / "digits.yaml").read_text(encoding="utf-8")
    steps = {name.removeprefix("exec-") for name in re.findall(r"exec-[a-z-]+", compiled)}
    assert steps
    assert steps <= titles
