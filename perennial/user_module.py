"""Loading the user's model module by its path, with what it imports from its folder."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

from typing_extensions import override

from perennial.errors import ProjectError, describe_error
from perennial.storage.digests import digest_file, digest_value

# Each module is in a package of its own, whose name ends with the digest of its sources.
_PACKAGE = "perennial_project_"
_LONGEST_NAME = 255  # bytes of a file's name on Linux


def load_module(path: Path) -> ModuleType:
    """Imports a Python file under a name that its contents decide; sys.path is not touched.

    It imports other files of its folder by their names (`import helper`) or relatively (`from .
    import helper`). Modules of two projects never meet, whatever their names.

    Raises:
        ProjectError: The file does not exist, or fails while it is imported.
    """
    if not path.is_file():
        raise ProjectError(
            str(path), "must exist", "no such file", "Name it in project.yaml: model.module."
        )
    package = f"{_PACKAGE}{digest_sources(path)[:16]}"
    name = f"{package}.{path.stem if path.stem.isidentifier() else 'module'}"
    if name in sys.modules:
        return sys.modules[name]
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    importlib.invalidate_caches()  # files may be new
    parent = ModuleType(package)
    parent.__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(
        name, path, loader=_ProjectLoader(name, str(path))
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.update({package: parent, name: module})
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        for each in [each for each in sys.modules if each.partition(".")[0] == package]:
            del sys.modules[each]
        raise ProjectError(
            user_line(path, error), "must import", describe_error(error), "Correct it."
        ) from error
    return module


class _ProjectFinder:
    """Finds the modules of the packages of `load_module`, and nothing else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds a module for the import system: see `importlib.abc.MetaPathFinder`."""
        package, _, inner = name.partition(".")
        if not package.startswith(_PACKAGE) or not inner:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _ProjectLoader(spec.loader.name, spec.loader.path)
        return spec


_FINDER = _ProjectFinder()


class _ProjectLoader(SourceFileLoader):
    """Loads a module whose `import helper` means the file beside the user's module.

    TFX puts the files of a module's folder on the path. Here only the module's own import
    statements look there, also those within its functions.
    """

    @override
    def exec_module(self, module: ModuleType) -> None:
        """Executes the module: see `importlib.abc.Loader`."""
        package = self.name.partition(".")[0]
        folder = Path(sys.modules[package].__path__[0])

        def import_module(
            name: str,
            globals: Mapping[str, object] | None = None,
            locals: Mapping[str, object] | None = None,
            fromlist: Sequence[str] = (),
            level: int = 0,
        ) -> ModuleType:
            top = name.partition(".")[0]
            if level or not _is_local(folder, top):
                return builtins.__import__(name, globals, locals, fromlist, level)
            imported = builtins.__import__(f"{package}.{name}", globals, locals, fromlist)
            return imported if fromlist else sys.modules[f"{package}.{top}"]

        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_module}
        super().exec_module(module)


def digest_sources(path: Path) -> str:
    """Computes the digest of a module and of all files of its folder that it imports."""
    return digest_files(path.parent, imported_files(path))


def digest_files(folder: Path, files: Sequence[Path]) -> str:
    """Computes the digest of files below a folder, by their names; of a single one, its SHA-256."""
    if len(files) == 1:
        return digest_file(files[0])
    return digest_value(
        sorted([path.relative_to(folder).as_posix(), digest_file(path)] for path in files)
    )


def imported_files(path: Path) -> list[Path]:
    """Lists a module and the files of its folder that it imports, directly or not.

    Import statements count wherever they stand; a module that code names in another way does not.
    """
    files: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in files and file.is_file():
            files[file] = None
            waiting += _imports_of(file, path.parent)
    return list(files)


def named_paths(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Lists what a module's sources may open beside them: what lies there and a text of them names.

    `Path(__file__).parent / "words" / "en.txt"` names the folder `words`.

    Args:
        sources: The module and what it imports.
        folder: The module's folder.
    """
    named: dict[Path, None] = {}
    for source in sources:
        for text in _texts_of(source):
            for beside in {folder, source.parent}:
                path = beside / text
                if path.exists() and path != beside:
                    named[path] = None
    return [path for path in named if path not in sources]


def _texts_of(source: Path) -> set[str]:
    """Lists the texts of a source that may be relative paths."""
    texts = {
        node.value
        for node in ast.walk(_parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {
        text
        for text in texts
        if text.isprintable()
        and len(text.encode()) <= _LONGEST_NAME
        and not text.startswith("/")
        and not {"", ".", ".."} & set(text.rstrip("/").split("/"))
    }


def _imports_of(file: Path, folder: Path) -> Iterator[Path]:
    """Gives the files of the folder that a file's import statements may mean."""
    for node in ast.walk(_parse(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else folder
            if not start.is_relative_to(folder):
                continue
            module = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files_of(start, [*module, alias.name])


def _files_of(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Gives the files that are imported for a dotted name, from a folder on."""
    place = folder
    for part in parts:
        yield place / part / "__init__.py"
        yield place / f"{part}.py"
        place = place / part


def _parse(file: Path) -> ast.Module:
    """Parses a source; one that is wrong imports nothing, which its own import tells."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _is_local(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


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
