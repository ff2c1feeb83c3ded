"""Modules that are imported and wait: looking at them does not load them, using them does."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest

from perennial.runner import warm_imports


@pytest.fixture
def fruit(tmp_path, monkeypatch):
    """A package that was imported lazily; it notes when it is loaded."""
    package = tmp_path / "lazyfruit"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import builtins\nbuiltins.loads.append(__name__)\nname = 'pear'\n"
    )
    (package / "part.py").write_text("import builtins\nbuiltins.loads.append(__name__)\n")
    monkeypatch.setattr("builtins.loads", [], raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(warm_imports, "LAZY", frozenset({"lazyfruit"}))
    sys.meta_path.insert(0, warm_imports._Finder)
    try:
        module = importlib.import_module("lazyfruit")
    finally:
        sys.meta_path.remove(warm_imports._Finder)
    yield module
    for name in ("lazyfruit", "lazyfruit.part"):
        sys.modules.pop(name, None)


def loads():
    import builtins

    return builtins.loads


def test_what_libraries_ask_of_all_modules_does_not_load_it(fruit):
    assert fruit.__file__.endswith("__init__.py") and fruit.__name__ == "lazyfruit"
    assert hasattr(fruit, "__file__") and "name" not in vars(fruit)
    assert (
        inspect.getmodule(test_what_libraries_ask_of_all_modules_does_not_load_it)
        is sys.modules[__name__]
    )
    assert loads() == []


def test_use_loads_it_once(fruit):
    assert fruit.name == "pear" and fruit.name == "pear"
    assert loads() == ["lazyfruit"]
    with pytest.raises(AttributeError, match="has no attribute 'stone'"):
        _ = fruit.stone


def test_part_of_it_is_loaded_after_it(fruit):
    part = importlib.import_module("lazyfruit.part")
    assert loads() == ["lazyfruit", "lazyfruit.part"] and fruit.part is part


def test_error_while_it_loads_comes_each_time(fruit, tmp_path):
    (tmp_path / "lazyfruit" / "__init__.py").write_text("raise OSError('no fruit')")
    for _ in range(2):
        with pytest.raises(OSError, match="no fruit"):
            _ = fruit.name
