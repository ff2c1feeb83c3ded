"""Makes docs/architecture.md.

The rooms of the source tree, what each may import, and the ways through them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import shape  # noqa: E402 - tools/ is no package

PICTURE = """\
  perennial.cli                one file per command
       │
  perennial.runner             runs a compiled pipeline on this machine; the warm process
       │
  pipelines                    what runs and in what order (Kubeflow Pipelines)
       │
  components                   one room per step: step.py does it, component.py wraps it
       │            serving    the model server
       │               │
  perennial.*          │       what two or more rooms share, by topic
       └───────┬───────┘
  schemas                      settings and records: what goes from room to room"""


def render() -> str:
    """Renders the page without the note that it is generated."""
    modules = list(shape.read_modules(ROOT))
    return "\n".join([_START, *_rooms(modules), "", *_ways(modules), ""])


_START = f"""\
# Architecture

Read this first. It shows where things are and how they hang together; [one record](one-record.md)
then follows a single digit through all of it.

```text
{PICTURE}
```

Imports point downwards. `components` do not import each other: what two of them need is a record
in `schemas` or a module of `perennial`. Only the command line imports the runner, and nothing
imports the command line. `make check` refuses anything else (import-linter, `pyproject.toml`).

A **step** is a plain typed function in `components/<step>/step.py`: it takes paths and values,
writes what it made into folders, and returns a record. It never imports Kubeflow. `component.py` is
its wrapper of about fifteen lines: it looks in the [root](storage.md) for what the step made of the
same inputs before, and only then stages them as folders, calls the step and publishes what it left.
Functions that decide are pure; steps read and write; wrappers only wire. Heavy libraries are
imported inside functions.

## Rooms
"""


def _rooms(modules: list[shape.Module]) -> Iterator[str]:
    """A table of packages: what each is for, and which others it imports."""
    imports: dict[str, set[str]] = {}
    for module, target in shape.find_imports(modules):
        if target.package != module.package:
            imports.setdefault(module.package, set()).add(target.package)
    purposes = {
        module.name: (ast.get_docstring(module.tree) or "").split("\n")[0] for module in modules
    }
    steps = sorted(
        {
            m.package
            for m in modules
            if m.package.startswith("components.") and m.name != "components.kubeflow"
        }
    )
    yield "| room | what is in it | imports, of `perennial` |"
    yield "| --- | --- | --- |"
    for package in sorted({module.package for module in modules} - set(steps)):
        if not purposes.get(package):
            continue
        topics = sorted(
            name.removeprefix("perennial.")
            for name in imports.get(package, ())
            if name.startswith("perennial.")
        )
        path = package.replace(".", "/")
        link = f"../{path}.py" if (ROOT / f"{path}.py").is_file() else f"../{path}"
        yield f"| [`{package}`]({link}) | {purposes[package]} | {', '.join(topics)} |"
    yield ""
    yield "The steps, in alphabetical order:"
    yield ""
    yield "| step | what it does |"
    yield "| --- | --- |"
    for step in steps:
        # One task calls the steps of others, and is a wrapper alone.
        module = next(
            name
            for name in (f"{step}.step", f"{step}.component")
            if any(m.name == name for m in modules)
        )
        file = f"{module.replace('.', '/')}.py"
        yield f"| [`{step.removeprefix('components.')}`](../{file}) | {purposes[module]} |"


# A way: its title, and its stations as (module, function, what happens there).
WAYS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "The way of a span",
        (
            (
                "perennial.spans.landed",
                "find_landed",
                "finds the files or rows, names them, takes fingerprints",
            ),
            ("perennial.spans.window", "decide_work", "decides whether anything is new"),
            (
                "components.select_spans.step",
                "select_spans",
                "writes the run's selection into the ledger",
            ),
            (
                "components.ingest_examples.step",
                "ingest_examples",
                "makes tf.Examples of its rows, split by key",
            ),
            (
                "components.check_examples.step",
                "check_examples",
                "holds them against the business rules",
            ),
            ("components.compute_statistics.step", "compute_statistics", "measures them"),
            (
                "components.validate_data.step",
                "validate_data",
                "accepts the span, or quarantines it",
            ),
            (
                "components.transform_features.step",
                "transform_features",
                "transforms the whole window",
            ),
            ("components.train_model.step", "train_model", "trains on it"),
            (
                "components.evaluate_model.step",
                "evaluate_model",
                "judges the result on its test split",
            ),
            (
                "components.conclude_run.step",
                "conclude_run",
                "records the verdict on it: it is not new any more",
            ),
        ),
    ),
    (
        "The way of a request",
        (
            ("serving.server", "serve", "starts KServe's server, which follows the ledger"),
            ("serving.follower", "", "loads the versions that the ledger names"),
            ("serving.router", "", "chooses the arm, by the key of the request"),
            ("serving.inputs", "", "makes arrays of the request's body, by the model's contract"),
            ("serving.runtime", "", "calls the SavedModel"),
            ("serving.outputs", "", "names what it gave"),
        ),
    ),
    (
        "The way of a setting",
        (
            ("schemas.project", "", "defines it, with its default, bounds and description"),
            (
                "perennial.settings",
                "parse_settings",
                "reads project.yaml and says what is wrong with it",
            ),
            ("perennial.project", "load_project", "gives it to whoever asks: `project.settings`"),
        ),
    ),
    (
        "The way of the user's module",
        (
            ("perennial.user_module", "load_module", "loads it by its path, never by sys.path"),
            ("perennial.data.preprocessing", "load_preprocessing", "takes its preprocessing_fn"),
            (
                "perennial.training.model_builder",
                "",
                "builds its model and tries it on examples",
            ),
            ("perennial.tfx_module.run_fn", "train_by_run_fn", "or calls its run_fn as TFX does"),
        ),
    ),
)


def _ways(modules: list[shape.Module]) -> Iterator[str]:
    """The stations of each way as a numbered list.

    Raises:
        ValueError: A station is not in the code.
    """
    by_name = {module.name: module for module in modules}
    for title, stations in WAYS:
        yield f"## {title}"
        yield ""
        for number, (name, function, purpose) in enumerate(stations, 1):
            _check(by_name, name, function)
            path = f"{name.replace('.', '/')}.py"
            yield f"{number}. [`{function or path}`](../{path}) {purpose}"
        yield ""


def _check(modules: dict[str, shape.Module], name: str, function: str) -> None:
    names = {function} - {""}
    if name in modules:
        names -= {n.name for n in ast.walk(modules[name].tree) if isinstance(n, shape.Function)}
    if name not in modules or names:
        raise ValueError(
            f"docs/architecture.py names {name}.{function}, which is not in the code: correct its "
            "stations"
        )
