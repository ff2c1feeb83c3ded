"""Each page begins with an example, and the examples of all pages work: commands, settings and modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from perennial.cli.init import init_project
from perennial.project import load_project
from tests.docs.documented import PROJECT, make_documented, perennial
from tests.session import make_once

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What goes on until it is stopped; its own tests start it.
SERVERS = {"tensorboard", "serve", "watch"}


@dataclass(frozen=True)
class Command:
    """A command of a page, and the lines that the page shows of what it prints."""

    arguments: list[str]
    shown: list[str]


def blocks(page: str, language: str) -> list[str]:
    """The page's fenced blocks of one language, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [body for name, body in FENCE.findall(text) if name == language]


def pages_with(language: str) -> list[str]:
    return [page for page in PAGES if blocks(page, language)]


def commands(block: str) -> list[Command]:
    """The commands of a console block: lines behind `$ `, each followed by what it prints."""
    result: list[Command] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            result.append(Command(shlex.split(line[2:], comments=True), []))
        elif line.strip():
            result[-1].shown.append(line)
    return result


def is_printed(shown: list[str], printed: str) -> bool:
    """Whether the lines were printed in this order; "…" stands for anything."""
    expected = [re.escape(" ".join(line.split())).replace("…", ".*") for line in shown]
    lines = "\n".join(" ".join(line.split()) for line in printed.splitlines())
    pattern = r"[\s\S]*?".join(rf"^{line}$" for line in expected)
    return re.search(pattern, lines, re.MULTILINE) is not None


@pytest.mark.parametrize("page", PAGES)
def test_page_begins_with_an_example(page: str) -> None:
    before_sections, _, _ = (DOCS / page).read_text(encoding="utf-8").partition("\n## ")
    assert FENCE.search(before_sections), f"{page} has no example before its first section"


@pytest.fixture(scope="module")
def documented() -> Path:
    return make_once("documented", make_documented)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("console"))
def test_commands_print_what_the_page_shows(page: str, documented: Path) -> None:
    for command in [each for block in blocks(page, "console") for each in commands(block)]:
        program, *arguments = command.arguments
        assert program == "perennial"
        if arguments[:2] == ["schema", "infer"]:  # it writes a schema where there is none
            (documented / PROJECT / "schema.pbtxt").unlink()
        if arguments[0] not in SERVERS:
            printed = perennial(documented, *arguments)
            assert is_printed(command.shown, printed), f"{command}\n{printed}"


@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands_of_the_repository_exist(page: str) -> None:
    """Benchmarks take minutes and servers do not end: what they are called with is checked."""
    for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line)
        if program == "python":
            command = [sys.executable, arguments[0], "--help"]
        elif program == "make":
            command = ["make", "--dry-run", *arguments]
        else:
            continue
        done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        options = {word for word in arguments if word.startswith("--")}
        assert program == "make" or options <= set(re.findall(r"--[\w-]+", done.stdout))


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_settings_are_valid(page: str, tmp_path: Path) -> None:
    init_project(tmp_path / PROJECT)
    least = yaml.safe_load(blocks("settings.md", "yaml")[0])
    for block in blocks(page, "yaml"):
        settings = {**least, **yaml.safe_load(block)}
        settings["model"] = {**least["model"], **settings["model"]}
        (tmp_path / PROJECT / "project.yaml").write_text(yaml.safe_dump(settings))
        load_project(tmp_path / PROJECT)


@pytest.fixture(scope="module")
def user_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a page's module stands: beside the weights of the page's own model of digits."""
    from perennial.export.contract import EXTRA
    from perennial.training.artifacts import WEIGHTS_FILE
    from perennial.training.weights import save_weights, weights_of

    module = tmp_path_factory.mktemp("module") / "model.py"
    (digits,) = [block for block in blocks("blocks.md", "python") if "multi_class(10)" in block]
    model = define(digits, "digits", module)["build_model"](None)
    save_weights(weights_of(model), module.parent / "digits_model" / EXTRA / WEIGHTS_FILE)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("python"))
def test_modules_build_and_compute(page: str, user_module: Path) -> None:
    for number, block in enumerate(blocks(page, "python")):
        names = define(block, f"{page}, example {number + 1}", user_module)
        if "preprocessing_fn" in names:
            features = names["preprocessing_fn"](sample())
            assert features and all(len(value) == 2 for value in features.values())
        builders = [names[name] for name in ("build_model",) if name in names]
        if "design_spaces" in names:
            builders += names["design_spaces"]().values()
        for build in builders:
            answers = predict(build)
            assert all(np.isfinite(value).all() and len(value) == 2 for value in answers.values())
        assert builders or "preprocessing_fn" in names


@pytest.mark.parametrize("package", ["blocks", "features"])
def test_examples_in_docstrings_are_python(package: str) -> None:
    """Of the package itself and of all that it exports."""
    module = importlib.import_module(f"perennial.{package}")
    members = [module, *(getattr(module, name) for name in module.__all__)]
    examples = [code for member in members for code in indented(inspect.getdoc(member) or "")]
    assert examples
    for code in examples:
        ast.parse(code)


def indented(docstring: str) -> list[str]:
    """The examples of a docstring: what is indented before its first section."""
    prose = re.split(r"^(?:Args|Attributes|Returns|Input shape):", docstring, flags=re.MULTILINE)[0]
    paragraphs = re.findall(r"(?:^(?: {4}.*)?\n)+", prose + "\n", re.MULTILINE)
    return [textwrap.dedent(text) for text in paragraphs if text.strip()]


def define(block: str, name: str, module: Path) -> dict[str, Any]:
    """Gives what a page's module defines."""
    names: dict[str, Any] = {"__file__": str(module), "Path": Path, "blocks": library("blocks")}
    names["features"] = library("features")
    exec(compile(block, name, "exec"), names)
    return names


def library(name: str) -> ModuleType:
    return importlib.import_module(f"perennial.{name}")


def sample() -> dict[str, Any]:
    """Two examples with every feature that the pages' `preprocessing_fn` read."""
    import tensorflow as tf

    started = tf.constant(["2026-01-31T06:00:00", "2026-02-01T23:59:59"])
    return {
        "image": tf.zeros([2, 64], tf.int64),
        "started_at": started,
        "picked_up_at": started,
        "payment": tf.constant(["Cash", "Credit Card"]),
    }


def predict(build: Callable[..., Any]) -> dict[str, Any]:
    """Builds a model, with hyperparameters where it asks for them, and gives its answers to two examples."""
    import keras_tuner
    import tensorflow as tf

    with_hp = len(inspect.signature(build).parameters) == 2
    model = build(None, keras_tuner.HyperParameters()) if with_hp else build(None)
    zeros = {each.name: tf.zeros([2, *each.shape[1:]], each.dtype) for each in model.inputs}
    return {name: value.numpy() for name, value in model(zeros).items()}
