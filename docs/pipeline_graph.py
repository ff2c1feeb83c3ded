"""Draws docs/pipeline.svg: the compiled pipeline of the digits example.

Graphviz lays it out (`dot`, Debian's graphviz); whether the picture is current can be told without.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

COMPILED = Path(__file__).resolve().parents[1] / "pipelines" / "compiled" / "digits.yaml"

# What a group of tasks is, by the value that its condition compares with or the list of its loop.
CONDITIONS = {
    "train": "when there is something to train on",
    "accepted": "when the data is accepted",
    "promote": "when the gate promotes",
}
LOOPS = {"pending": "for each span without results", "instances": "for each instance"}

STYLE = [
    "compound=true; newrank=true; rankdir=TB; nodesep=0.3; ranksep=0.35;",
    'bgcolor="white"; fontname="Helvetica"; fontsize=11; fontcolor="#5f6b7a";',
    'node [shape=box, style="rounded,filled", fillcolor="#e8f0fe", color="#4472c4",'
    ' fontname="Helvetica", fontsize=12, fontcolor="#1b2a41", height=0.35];',
    'edge [color="#8793a3", arrowsize=0.6];',
]


def graph() -> str:
    """The compiled pipeline in Graphviz' language."""
    compiled = next(yaml.load_all(COMPILED.read_text(encoding="utf-8"), yaml.CSafeLoader))
    lines = ["digraph pipeline {", *STYLE, *_group(compiled["root"]["dag"], compiled), "}"]
    return "\n".join(lines) + "\n"


def render() -> str:
    """The picture as SVG, with the digest of the graph that it shows.

    Raises:
        FileNotFoundError: Graphviz is not installed.
        subprocess.CalledProcessError: Graphviz refuses the graph.
    """
    text = graph()
    fewest_arrows = _run(["tred"], text)
    head, svg = _run(["dot", "-Tsvg"], fewest_arrows).split("<svg", 1)
    return f"{head}<!-- {digest(text)} -->\n<svg{svg}"


def _run(command: list[str], graph: str) -> str:
    done = subprocess.run(command, input=graph, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def digest(text: str) -> str:
    """The line by which a picture tells which graph it shows."""
    return f"graph sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _group(dag: dict[str, Any], compiled: dict[str, Any]) -> Iterator[str]:
    """Tasks of one group, groups within it, and what waits for what."""
    tasks = dag["tasks"]
    for name, task in tasks.items():
        inner = _inner(task, compiled)
        if inner is None:
            yield f'"{name}" [label="{name.replace("-", "_")}"];'
        else:
            yield f'subgraph "cluster_{name}" {{ label="{_label(task)}"; labeljust=l;'
            yield 'style="rounded,dashed"; color="#8793a3";'
            yield from _group(inner, compiled)
            yield "}"
    for name, task in tasks.items():
        for before in task.get("dependentTasks", []):
            yield _arrow(before, name, tasks, compiled)


def _inner(task: dict[str, Any], compiled: dict[str, Any]) -> dict[str, Any] | None:
    """The tasks within a group; none for a step."""
    inner: dict[str, Any] | None = compiled["components"][task["componentRef"]["name"]].get("dag")
    return inner


def _label(task: dict[str, Any]) -> str:
    """Says in words what a group is."""
    if "triggerPolicy" in task:
        return CONDITIONS[task["triggerPolicy"]["condition"].split("'")[-2]]
    if "parameterIterator" in task:
        channel = task["parameterIterator"]["items"]["inputParameter"]
        return LOOPS[channel.rsplit("-", 1)[-1]]
    return "a run; conclude_run follows whatever happens in it"


def _arrow(before: str, after: str, tasks: dict[str, Any], compiled: dict[str, Any]) -> str:
    """An arrow between two tasks, drawn from and to the border where one is a group."""
    tail = _step_of(before, tasks, compiled, last=True)
    head = _step_of(after, tasks, compiled, last=False)
    borders = [
        f'{end}="cluster_{name}"'
        for end, name, step in (("ltail", before, tail), ("lhead", after, head))
        if name != step
    ]
    return f'"{tail}" -> "{head}" [{", ".join(borders)}];'


def _step_of(name: str, tasks: dict[str, Any], compiled: dict[str, Any], *, last: bool) -> str:
    """The task itself, or the step that stands for its group: one of its last or of its first."""
    inner = _inner(tasks[name], compiled)
    if inner is None:
        return name
    waits_for = {
        task: set(inner["tasks"][task].get("dependentTasks", [])) for task in inner["tasks"]
    }
    waited_for = set().union(*waits_for.values())
    ends = [task for task in waits_for if (task not in waited_for if last else not waits_for[task])]
    return _step_of(min(ends), inner["tasks"], compiled, last=last)
