"""Plots that several pages of a test session share are drawn once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from perennial.report.page import load_templates


class _DrawnOnce:
    """The plots of a module, each drawn once for the same values: one costs a tenth of a second."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.drawn = module, dict[str, Any]()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.module, name)
        return functools.partial(self._draw, attribute) if callable(attribute) else attribute

    def _draw(self, plot: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        key = repr((plot.__name__, arguments, options))
        if key not in self.drawn:
            self.drawn[key] = plot(*arguments, **options)
        return self.drawn[key]


@pytest.fixture(scope="package", autouse=True)
def plot_modules() -> Iterator[dict[str, Any]]:
    """Has pages show each plot as it was first drawn for the same values; gives what draws them."""
    variables = load_templates().globals
    modules = {name: one for name, one in variables.items() if name.endswith("_plots")}
    assert modules
    variables.update({name: _DrawnOnce(one) for name, one in modules.items()})
    yield modules
    variables.update(modules)


@pytest.fixture
def drawn_anew(plot_modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a test's pages draw all their plots."""
    for name, module in plot_modules.items():
        monkeypatch.setitem(load_templates().globals, name, module)
