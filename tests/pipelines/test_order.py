"""Where steps are called one by one, by hand, it is in the order of the pipeline."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from perennial.step_inputs import PREPARATION
from perennial.training.stages import OPTIONAL_STEPS, Stages
from pipelines.continuous_training import continuous_training
from tests.pipelines.test_stages import ALWAYS, dags

ROOT = Path(__file__).parents[2]
# Functions of steps that are not named like them, and the task of three of them.
STEPS = {step: "prepare_span" for step in PREPARATION} | {"measure_span": "prepare_span"}
STEPS |= {step: step for step in (*ALWAYS, *OPTIONAL_STEPS)}


def called_steps(file: Path, start: str) -> list[str]:
    """The steps that a function calls or hands to `forked`, in order, through others of its file."""
    tree = ast.parse(file.read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}

    def follow(name: str) -> Iterator[str]:
        calls = [node for node in ast.walk(functions[name]) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
            for named in (call.func, *call.args[:1]):
                if isinstance(named, ast.Name) and named.id in functions:
                    yield from follow(named.id)
                elif isinstance(named, ast.Name) and named.id in STEPS:
                    yield STEPS[named.id]

    return list(dict.fromkeys(follow(start)))


def steps_of(spec: dict[str, Any], task: dict[str, Any]) -> set[str]:
    """The steps of a task, or of the graph that it stands for."""
    name = task["componentRef"]["name"]
    component = spec["components"][name]
    if "dag" not in component:
        return {name.removeprefix("comp-").rstrip("-0123456789").replace("-", "_")}
    return set().union(*(steps_of(spec, each) for each in component["dag"]["tasks"].values()))


def test_steps_run_in_the_order_of_the_pipeline_where_they_are_called_by_hand():
    spec = MessageToDict(continuous_training(Stages(*[True] * len(OPTIONAL_STEPS))).pipeline_spec)
    before = [
        (earlier, later)
        for _, tasks in dags(spec)
        for task in tasks.values()
        for name in task.get("dependentTasks", ())
        for earlier in steps_of(spec, tasks[name])
        for later in steps_of(spec, task)
    ]
    assert ("prepare_span", "validate_data") in before
    for file, start in (("tests/chain.py", "run_chain"), ("docs/journey.py", "travel")):
        called = called_steps(ROOT / file, start)
        assert len(called) > 5, called
        for earlier, later in before:
            if earlier in called and later in called and earlier != later:
                assert called.index(earlier) < called.index(later), (file, earlier, later)
