"""Writes the pages of docs/ that are made from the code, or checks that they are current.

python docs/generate.py                    # all pages but the next two: seconds
python docs/generate.py one-record         # takes a digit through the whole loop: about a minute
python docs/generate.py pipeline           # draws the compiled pipeline, by Graphviz' dot
python docs/generate.py --check [NAME ...] # writes nothing; exit code 1 names the stale files
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from perennial import errors, features
from perennial.cli import main as command_line
from perennial.runner.project_run import EXIT_CODES
from perennial.step_inputs import FILES, SELECTED, STEP_INPUTS, readers_of, setting_paths
from schemas.project import ProjectSettings

ROOT = Path(__file__).resolve().parents[1]
NOTE = (
    "<!-- Written by docs/generate.py; change the code that it describes, then run that again. -->"
)
_BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "pattern": "matches `{}`",
}


@dataclass(frozen=True)
class Page:
    """A file that is generated; `quick` ones are made unless others are named."""

    path: str
    make: Callable[[], str]
    quick: bool = True


# --- the command line ---------------------------------------------------------------------------


def cli_page() -> str:
    """Every command with its arguments and options, and the exit codes."""
    group: Any = typer.main.get_command(command_line.app)
    lines = [
        NOTE,
        "",
        "# Command line: what does each command take?",
        "",
        "```console",
        "$ perennial --help",
        "```",
        "",
        group.help,
        "",
        "    perennial [OPTIONS] COMMAND",
        *_options(group),
        "",
        "| command | what it does |",
        "| --- | --- |",
    ]
    commands = list(_commands("", group))
    lines += [
        f"| [`{name}`](#perennial-{name.replace(' ', '-')}) | {command.help.splitlines()[0]} |"
        for name, command in commands
    ]
    for name, command in commands:
        lines += ["", *_command(name, command)]
    return "\n".join([*lines, "", *_exit_codes()]) + "\n"


def _commands(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(f"{prefix}{name} ", command)
        else:
            yield f"{prefix}{name}", command


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = list(_options(command))
    usage = [f"perennial {name}", *(["[OPTIONS]"] if options else []), *map(_usage, arguments)]
    yield from (f"## perennial {name}", "", command.help, "", f"    {' '.join(usage)}")
    if arguments:
        yield from ("", "| argument | what it is |", "| --- | --- |")
        yield from (f"| `{_usage(p)}` | {p.help} |" for p in arguments)
    yield from options


def _options(command: Any) -> Iterator[str]:
    options = [p for p in command.params if p.param_type_name == "option"]
    if options:
        yield from ("", "| option | default | what it does |", "| --- | --- | --- |")
        yield from (f"| {_option(p)} | {_default(p)} | {p.help} |" for p in options)


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    value = "" if option.is_flag else f" {_type(option.type_descriptor.annotation).upper()}"
    return ", ".join(f"`{name}{value}`" for name in [*option.opts, *option.secondary_opts])


def _default(option: Any) -> str:
    if option.default is None or option.default is False or option.default == []:
        return "must be given" if option.required else ""
    return f"`{option.default}`"


def _exit_codes() -> Iterator[str]:
    """Exit code -> the outcomes of a run and the errors that end with it."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PerennialError)
    ]
    codes = {0, *EXIT_CODES.values(), *(kind.exit_code for kind in kinds)}
    yield from ("## Exit codes", "", "| code | outcome of a run | error |", "| --- | --- | --- |")
    for code in sorted(codes):
        outcomes = ", ".join(
            f"`{outcome}`" for outcome, its_code in EXIT_CODES.items() if its_code == code
        )
        named = [
            kind
            for kind in kinds
            if kind.exit_code == code
            and kind is not errors.PerennialError
            and (kind.__base__ is errors.PerennialError or kind.__base__.exit_code != code)
        ]
        described = " ".join((kind.__doc__ or "").splitlines()[0] for kind in named)
        yield (
            f"| {code} | {outcomes} | "
            f"{described}{' A command line that cannot be read.' if code == 2 else ''} |"
        )
    yield ""
    yield "A run that fails because of a mistake in the project ends with 2, too."
    yield (
        "An error is one message on standard error: where, what was expected, what was received, "
        "what to do."
    )


# --- the settings -------------------------------------------------------------------------------


_LEAST_SETTINGS = [
    "```yaml",
    "name: iris",
    "label: species",
    "data:",
    "  spans: data/{YYYY}-{MM}-{DD}.parquet",
    "  key: id",
    "model:",
    "  module: model.py",
    "```",
    "",
    "That much must be said; all else has a default.",
]


def settings_page() -> str:
    """Every key of project.yaml with its type, default, bounds and meaning."""
    top = (
        "Every key of `project.yaml`. A key without a default must be set. Unknown keys are "
        "refused."
    )
    schema = "Editors that read JSON schemas check and complete it with"
    link = "[schemas/project.schema.json](../schemas/project.schema.json)."
    lines = [NOTE, "", "# Settings: what can project.yaml say?", "", *_LEAST_SETTINGS, ""]
    lines += [top, f"{schema} {link}"]
    for name, model in _sections("", ProjectSettings):
        lines += [
            "",
            f"## {name}" if name else "## Top level",
            "",
            (model.__doc__ or "").splitlines()[0],
            "",
        ]
        lines += [
            "| key | type | default | bounds | what it means |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_setting(key, field) for key, field in model.model_fields.items()]
        lines += [f"\n{rule}" for rule in _rules(model)]
    return "\n".join([*lines, "", *_what_runs_again()]) + "\n"


def _what_runs_again() -> Iterator[str]:
    """The steps whose results each setting and file decides."""
    yield "## Which change makes which step run again"
    yield ""
    yield (
        "A step's result is kept by its key: the settings and files that name the step here, and "
        "what the"
    )
    yield (
        "steps before it made. A change makes those steps run again, and the steps that read "
        "what they make."
    )
    yield "So a change of `gate.margin` asks the gate again and trains nothing. `select_spans`,"
    yield (
        "`register_model`, `push_model` and `conclude_run` have no key: they run whenever a run "
        "comes to them."
    )
    yield ""
    yield f"In the order of the run: {_listed(STEP_INPUTS)}."
    yield ""
    yield "| setting or file | steps that read it | what it changes through `select_spans` |"
    yield "| --- | --- | --- |"
    rows = [(f"`{path}`", _listed(readers_of(path)), _selected(path)) for path in setting_paths()]
    for (readers, selected), same in itertools.groupby(rows, key=lambda row: row[1:]):
        yield f"| {', '.join(row[0] for row in same)} | {readers or 'none'} | {selected} |"
    for file in sorted(FILES):
        readers = _listed(step for step, inputs in STEP_INPUTS.items() if file in inputs.files)
        yield f"| {file} | {readers} | |"
    yield ""
    yield (
        "What no step reads says where and on what steps work, or is read by commands and by the "
        "server. A"
    )
    yield (
        "setting that adds a step to the pipeline or takes one out makes the steps behind it run "
        "again."
    )


def _selected(path: str) -> str:
    step, what = SELECTED.get(path, ("", ""))
    return f"{what}: `{step}`" if step else ""


def _listed(steps: Iterable[str]) -> str:
    return ", ".join(f"`{step}`" for step in steps)


def _sections(name: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield name, model
    for key, field in model.model_fields.items():
        if section := _section(field):
            yield from _sections(f"{name}.{key}".lstrip("."), section)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Finds the model of a key that is a section, optional (`X | None`) or a list of them."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next(
        (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None
    )


def _setting(key: str, field: FieldInfo) -> str:
    if section := _section(field):
        kind = "list of sections" if get_origin(field.annotation) is list else "section"
        return f"| `{key}` | {kind} | | | {(section.__doc__ or '').splitlines()[0]} |"
    cells = [
        _type(field.annotation),
        _shown_default(field),
        _bounds(field),
        field.description or "",
    ]
    return f"| `{key}` | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(annotation: Any) -> str:
    names = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "true or false",
        Path: "file",
        type(None): "none",
    }
    if annotation in names:
        return names[annotation]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is dict:
        return "mapping"
    if get_origin(annotation) is tuple:
        return f"[{', '.join(_type(part) for part in get_args(annotation))}]"
    if get_origin(annotation) is list:
        return f"list of {_type(get_args(annotation)[0])}"
    return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))


def _shown_default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "must be set"
    if value is None:
        return "none"
    return f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def _bounds(field: FieldInfo) -> str:
    bounds = [(name, getattr(item, name, None)) for item in field.metadata for name in _BOUNDS]
    return ", ".join(_BOUNDS[name].format(value) for name, value in bounds if value is not None)


def _rules(model: type[BaseModel]) -> list[str]:
    """Lists what the validators of a section ask of several keys together.

    The first lines of their docstrings.
    """
    validators = model.__pydantic_decorators__.model_validators.values()
    return [(v.func.__doc__ or "").splitlines()[0] for v in validators if v.func.__doc__]


def features_page() -> str:
    """Every function of `perennial.features`, as its docstring tells it."""
    lines = [NOTE, "", "# Feature functions", "", *(features.__doc__ or "").splitlines()[:1], ""]
    lines += ["```python", *_dedent(features.__doc__ or ""), "```"]
    for name in features.__all__:
        function = getattr(features, name)
        signature = re.sub(r"'([^']*)'", r"\1", str(inspect.signature(function)))
        lines += [
            "",
            f"## {name}",
            "",
            "```text",
            f"{name}{signature}",
            "",
            *inspect.getdoc(function).splitlines(),
            "```",
        ]
    return "\n".join(lines) + "\n"


def _dedent(text: str) -> list[str]:
    """The indented example in a docstring."""
    first, last = (text.index(mark) for mark in ("    from", "\n\nAll but"))
    return textwrap.dedent(text[first:last]).splitlines()


def schema_page() -> str:
    """JSON schema of project.yaml."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ProjectSettings.model_json_schema(),
    }
    return json.dumps(schema | {"title": "Perennial project.yaml"}, indent=2) + "\n"


# --- all pages ----------------------------------------------------------------------------------


def architecture_page() -> str:
    """The rooms of the source tree and the ways through them."""
    from architecture import render

    return f"{NOTE}\n\n{render()}"


def troubleshooting_page() -> str:
    """Every message of the tree of errors, with what to do."""
    from troubleshooting import render

    return f"{NOTE}\n\n{render()}"


def pipeline_picture() -> str:
    """The compiled pipeline as a picture; needs Graphviz."""
    from pipeline_graph import render

    return render()


def one_record_page() -> str:
    """One digit's journey; really runs the loop."""
    sys.path.insert(0, str(ROOT))  # for `tests`, which is not installed
    from journey import travel
    from one_record import render

    with tempfile.TemporaryDirectory() as work:
        return f"{NOTE}\n\n{render(travel(Path(work)))}"


PAGES = {
    "cli": Page("docs/cli.md", cli_page),
    "settings": Page("docs/settings.md", settings_page),
    "features": Page("docs/features.md", features_page),
    "schema": Page("schemas/project.schema.json", schema_page),
    "architecture": Page("docs/architecture.md", architecture_page),
    "troubleshooting": Page("docs/troubleshooting.md", troubleshooting_page),
    "pipeline": Page("docs/pipeline.svg", pipeline_picture, quick=False),
    "one-record": Page("docs/one-record.md", one_record_page, quick=False),
}


def main() -> int:
    """Writes or checks pages; gives the exit code."""
    parser = argparse.ArgumentParser(
        description="Write the pages of docs/ that are made from the code."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(PAGES)}; default: the quick ones"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when a file is stale"
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in PAGES]:
        parser.error(f"NAME must be one of {', '.join(PAGES)}. Received: {unknown[0]}")
    names = arguments.names or [name for name, page in PAGES.items() if page.quick]
    stale = [name for name in names if not _is_current(PAGES[name], arguments.check)]
    for name in stale:
        remedy = f"python docs/generate.py {name}"
        print(
            f"{PAGES[name].path} must be what the code says. Received: an older text. Run "
            f"`{remedy}`.",
            file=sys.stderr,
        )
    return int(bool(stale))


def _is_current(page: Page, check: bool) -> bool:
    """Makes a page and compares it with its file; writes it unless it is only checked."""
    path, text = ROOT / page.path, page.make()
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return True
    if check:
        return False
    path.write_text(text, encoding="utf-8")
    print(f"wrote {page.path}")
    return True


if __name__ == "__main__":
    sys.exit(main())
