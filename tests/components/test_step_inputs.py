"""What the steps really read of a project, found in their source, is what they declare."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from perennial.step_inputs import (
    EXPECTATIONS_FILE,
    MODULE,
    PLACES,
    PREPARATION,
    SCHEMA_FILE,
    SCHEMA_TYPES,
    STEP_INPUTS,
    covers,
)
from schemas import project as settings_module
from schemas.project import ProjectSettings

ROOT = Path(__file__).parents[2]
# What a project's members read; their own source is not followed.
MEMBERS = {
    "state": ("state",),
    "ledger_url": ("ledger.url", "state"),
    "tasks": ("label", "model.tasks"),
    "label_types": ("label", "model.tasks"),
    "module": (MODULE, "model.files", "model.module"),  # which opens these files
    "module_path": (MODULE, "model.module"),
    "uses_run_fn": (MODULE, "model.module"),
    "schema": (SCHEMA_FILE,),
    "schema_path": (SCHEMA_FILE,),
    "expectations": (EXPECTATIONS_FILE,),
    "expectations_path": (EXPECTATIONS_FILE,),
}
# Called for what they do with the whole settings of a run that trains; the key of a step is no
# reading of it.
NOT_FOLLOWED = {
    *("digest_of", "for_step", "load_project", "opened_for", "verify_stages"),
    *("StagedTask", "StoredStep"),
}
# Requests and unlabelled examples are read from files, by the functions that read the rows of a
# table, too.
_TABLE = {
    "data.table",
    *(f"data.table.{name}" for name in settings_module.TableSettings.model_fields),
}
NOT_REACHED = {"evaluate_model": _TABLE, "pretrain_learner": _TABLE}
# The functions of steps that are not named like them.
NAMES = {"compute_statistics": "measure_span"}
SECTIONS = {
    name: kind
    for name, kind in vars(settings_module).items()
    if isinstance(kind, type)
    and issubclass(kind, settings_module.Settings)
    and name not in ("Settings", "TaskSettings")
}


def paths_of_sections(kind: type = ProjectSettings, prefix: str = "") -> dict[str, str]:
    """Name of each section's class -> its key."""
    found = {}
    for name, info in kind.model_fields.items():
        kinds = (info.annotation, *get_args(info.annotation)) if name != "features" else ()
        inner = next((one for one in kinds if one in SECTIONS.values()), None)
        if inner is not None:
            found[inner.__name__] = f"{prefix}{name}"
            found |= paths_of_sections(inner, f"{prefix}{name}.")
    return found


PATHS = paths_of_sections() | {"ProjectSettings": ""}
BY_PATH = {path: name for name, path in PATHS.items()}


@dataclass
class Module:
    """A source file: its functions and classes, and where the names that it imports come from."""

    tree: ast.Module
    definitions: dict[str, ast.AST] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)


@cache
def module(name: str) -> Module | None:
    path = ROOT.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if name.partition(".")[0] not in ("components", "perennial") or not path.is_file():
        return None
    read = Module(ast.parse(path.read_text(encoding="utf-8")))
    for node in ast.walk(read.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                read.imports[alias.asname or alias.name] = (node.module, alias.name)
    for node in read.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            read.definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    read.definitions[target.id] = node
    return read


def definition(where: str, name: str) -> tuple[str, str] | None:
    """The module that defines what a name in a module means."""
    read = module(where)
    if read is None:
        return None
    if name in read.definitions:
        return where, name
    return definition(*read.imports[name]) if name in read.imports else None


@dataclass(frozen=True)
class Section:
    """The type of a value: the settings at a key, or a key's value; empty for all settings."""

    path: str

    @property
    def is_value(self) -> bool:
        return self.path not in BY_PATH


@dataclass(frozen=True)
class Class:
    """The type of a value: a class of the source tree."""

    where: str
    name: str


Type = Section | Class | None
PROJECT = Class("perennial.project", "Project")


def annotated(where: str, annotation: ast.AST | None) -> Type:
    """The type that an annotation names; of `X | None` and of a list of X, X."""
    if isinstance(annotation, ast.BinOp):
        return annotated(where, annotation.left) or annotated(where, annotation.right)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in (
        "Sequence",
        "list",
    ):
        return annotated(where, annotation.slice)
    if not isinstance(annotation, ast.Name):
        return None
    if annotation.id in PATHS:
        return Section(PATHS[annotation.id])
    place = definition(where, annotation.id)
    return (
        Class(*place)
        if place and isinstance(module(place[0]).definitions[place[1]], ast.ClassDef)
        else None
    )


@cache
def fields_of(owner: Class) -> dict[str, Type]:
    """Types of a class's fields and properties, and of what `__init__` assigns to `self`."""
    found: dict[str, Type] = {}
    for node in module(owner.where).definitions[owner.name].body:
        if isinstance(node, ast.AnnAssign):
            found[node.target.id] = annotated(owner.where, node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            reader = Reader(owner.where, None)
            reader.visit(node)
            found |= reader.of_self
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = annotated(owner.where, node.returns)
    return found


@cache
def reads_of(where: str, name: str) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """What a function or class reads itself, and what it names."""
    node = module(where).definitions[name]
    reader = Reader(where, Class(where, name) if isinstance(node, ast.ClassDef) else None)
    reader.visit(node)
    named = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} - NOT_FOLLOWED
    return frozenset(reader.found), frozenset(
        filter(None, (definition(where, one) for one in named))
    )


class Reader(ast.NodeVisitor):
    """Finds the settings and files that a definition reads, by the annotated types of what it handles."""

    def __init__(self, where: str, owner: Class | None) -> None:
        self.where = where
        self.found: set[str] = set()
        self.of_self: dict[str, Type] = {}
        self.literals: dict[str, Any] = {}
        self.names: list[dict[str, Type]] = [{"self": owner}]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        known = dict(self.names[-1])
        for argument in (*node.args.args, *node.args.kwonlyargs):
            if argument.arg != "self":
                known[argument.arg] = annotated(self.where, argument.annotation)
        self.names.append(known)
        for part in node.body:
            self.visit(part)
        self.names.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for name, value in pairs:
                self.visit(value)
                if isinstance(name, ast.Name) and isinstance(value, ast.Set):
                    self.literals[name.id] = {
                        one.value for one in value.elts if isinstance(one, ast.Constant)
                    }
                elif isinstance(name, ast.Name):
                    self.names[-1][name.id] = self.type_of(value)
                elif isinstance(name, ast.Attribute) and ast.unparse(name.value) == "self":
                    self.of_self[name.attr] = self.type_of(value)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if isinstance(item.optional_vars, ast.Name):
                self.names[-1][item.optional_vars.id] = self.type_of(item.context_expr)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._bind(node.target, node.iter)
        self.generic_visit(node)

    def visit_ListComp(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        for one in node.generators:
            self._bind(one.target, one.iter)
        self.generic_visit(node)

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _bind(self, target: ast.AST, items: ast.AST) -> None:
        if isinstance(target, ast.Name) and (kind := self.type_of(items)) is not None:
            self.names[-1][target.id] = kind

    def visit_Call(self, node: ast.Call) -> None:
        """`section.model_dump(include={...})` reads what it includes, with `exclude` all others."""
        if isinstance(node.func, ast.Attribute) and node.func.attr in (
            "model_dump",
            "model_dump_json",
        ):
            section = self.type_of(node.func.value)
            if isinstance(section, Section) and not section.is_value:
                given = {
                    one.arg: self._literal(one.value) for one in node.keywords if one.arg != "mode"
                }
                fields = set(SECTIONS[BY_PATH[section.path]].model_fields)
                kept = set(given.get("include", fields)) - set(given.get("exclude", ()))
                self.found |= {f"{section.path}.{name}".lstrip(".") for name in kept}
        self.generic_visit(node)

    def _literal(self, node: ast.AST) -> Any:
        return self.literals[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        kind = self.type_of(node)
        if isinstance(kind, Section) and kind.is_value:
            self.found.add(kind.path)
        if self.type_of(node.value) == PROJECT and node.attr in MEMBERS:
            self.found |= set(MEMBERS[node.attr])
        self.generic_visit(node)

    def type_of(self, node: ast.AST) -> Type:
        """The type of an expression, where annotations tell it."""
        if isinstance(node, ast.Name):
            return self.names[-1].get(node.id)
        if isinstance(node, ast.Attribute):
            return self._type_of_attribute(self.type_of(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return self.type_of(node.value)
        if isinstance(node, ast.IfExp):
            return self.type_of(node.body) or self.type_of(node.orelse)
        if isinstance(node, ast.Call):
            return self._type_of_call(node)
        return None

    def _type_of_attribute(self, owner: Type, name: str) -> Type:
        if isinstance(owner, Class):
            return fields_of(owner).get(name)
        if (
            owner is not None
            and not owner.is_value
            and name in SECTIONS[BY_PATH[owner.path]].model_fields
        ):
            return Section(f"{owner.path}.{name}".lstrip("."))
        return None

    def _type_of_call(self, node: ast.Call) -> Type:
        if isinstance(node.func, ast.Attribute):
            copied = node.func.attr in ("model_copy", "with_seed")
            return self.type_of(node.func.value) if copied else self.type_of(node.func)
        if not isinstance(node.func, ast.Name):
            return None
        if node.func.id == "load_project":
            return PROJECT
        if node.func.id == "replace":
            return self.type_of(node.args[0])
        place = definition(self.where, node.func.id)
        called = module(place[0]).definitions[place[1]] if place else None
        if isinstance(called, ast.ClassDef):
            return Class(*place)
        return annotated(place[0], called.returns) if isinstance(called, ast.FunctionDef) else None


def read_by(step: str) -> set[str]:
    """All that a step's wrapper, and whatever it reaches, reads of a project."""
    # A wrapper has the name of what it wraps; one wraps all that prepare a span.
    waiting = [(f"components.{step}.step", NAMES.get(step, step))]
    if step not in PREPARATION:
        waiting.append((f"components.{step}.component", step))
    seen, found = set(), set()
    while waiting:
        place = waiting.pop()
        if place in seen or place[0] in ("perennial.project", "perennial.step_inputs"):
            continue
        seen.add(place)
        reads, reached = reads_of(*place)
        found |= reads
        waiting += reached
    return found


@pytest.mark.parametrize("step", STEP_INPUTS)
def test_a_step_reads_what_it_declares_and_nothing_else(step):
    inputs, found = STEP_INPUTS[step], read_by(step)
    found -= NOT_REACHED.get(step, set())
    files = {SCHEMA_FILE if file == SCHEMA_TYPES else file for file in inputs.files}
    undeclared = {one for one in found if not covers((*inputs.settings, *PLACES, *files), one)}
    assert not undeclared, "it would stop at these: declare them in perennial/step_inputs.py"
    unread = {one for one in inputs.settings if not any(covers([one], path) for path in found)}
    assert not unread and files <= found, (
        "it runs again for a change of these, which it does not read"
    )
