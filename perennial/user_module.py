"""Loading the user's model module by its path."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from perennial.errors import ProjectError, describe_error
from perennial.storage.digests import digest_file


def load_module(path: Path) -> ModuleType:
    """Imports a Python file under a name that its contents decide; sys.path is not touched.

    Raises:
        ProjectError: The file does not exist, or fails while it is imported.
    """
    if not path.is_file():
        raise ProjectError(
            str(path), "must exist", "no such file", "Name it in project.yaml: model.module."
        )
    name = f"perennial_project_{digest_file(path)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ProjectError(
            user_line(path, error), "must import", describe_error(error), "Correct it."
        ) from error
    return module


def find_module(name: str) -> Path:
    """Finds the file of a module by its importable name.

    None of the packages that it lies in is imported.

    Raises:
        ProjectError: There is no such module.
    """
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [Path(folder, *rest).with_suffix(".py") for folder in folders]
    if not rest and spec and spec.origin:
        files = [Path(spec.origin)]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        where, expected = (
            "project.yaml: model.module",
            "must be a .py file in the project folder or a module's name",
        )
        raise ProjectError(
            where, expected, name, "Install the package that holds it, or correct the name."
        )
    return file


def load_named(name: str) -> ModuleType:
    """Imports a module by its name.

    Raises:
        ProjectError: It fails while it is imported.
    """
    path = find_module(name)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ProjectError(
            user_line(path, error), "must import", describe_error(error), "Correct it."
        ) from error


def defined_names(path: Path) -> set[str]:
    """Lists the names that a module defines at its top, without importing it.

    Raises:
        ProjectError: It is not valid Python.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    except SyntaxError as error:
        line = (error.text or "").strip()
        where, received = f"{path.name}:{error.lineno}", f"{error.msg}: {line}"
        raise ProjectError(where, "must be valid Python", received, "Correct it.") from None
    return {name for node in tree.body for name in _names(node)}


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def function_line(function: Callable[..., object]) -> str:
    """Tells where in the user's file a function begins: `model.py:12: build_model`."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:  # a partial, or a class
        return getattr(function, "__name__", type(function).__name__)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}: {code.co_name}"


def call_line(path: Path, method: str) -> str | None:
    """Tells where in the user's file a method is called last: `model.py:20`; None: nowhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
    ]
    return f"{path.name}:{max(lines)}" if lines else None


def user_line(path: Path, error: BaseException) -> str:
    """Tells where in the user's file an error came from: `model.py:12`, or the file."""
    if isinstance(error, SyntaxError) and error.lineno and error.filename == str(path):
        return f"{path.name}:{error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path
    ]
    return f"{path.name}:{frames[-1].lineno}" if frames else path.name
