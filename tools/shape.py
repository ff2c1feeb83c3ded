"""Measures the shape of the source tree, so that two states of it can be compared.

Usage: python tools/shape.py [ROOT]. Nothing is imported or run: the files are read and parsed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("schemas", "perennial", "components", "pipelines", "serving")
LONGEST_LINE = 100
REPEATED_LINES = 6
SHORT_BODY = 2
# A docstring that opens with one of these says what a thing is, although the word ends like a verb.
NOUNS = frozenset(
    {"this", "names", "rows", "shares", "others", "columns", "models", "values", "words", "spans"}
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, its text and its syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The room that it belongs to, two parts of its name.

        A loose module of these two is a room of its own.
        """
        parts = self.name.split(".")
        return (
            ".".join(parts[:2])
            if len(parts) > 2 or parts[0] in ("perennial", "schemas")
            else parts[0]
        )


def main() -> None:
    """Prints the measures as a Markdown table."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    modules = list(read_modules(root))
    print("| measure | |\n| --- | ---: |")
    for name, value in measure(modules):
        print(f"| {name} | {value} |")


def read_modules(root: Path) -> Iterator[Module]:
    """Reads every module of the product; tests, tools and examples are not in it."""
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = file.read_text(encoding="utf-8")
            yield Module(name, text, ast.parse(text))


def measure(modules: list[Module]) -> Iterator[tuple[str, str]]:
    """Gives each measure with its value."""
    lines = sum(len(module.text.splitlines()) for module in modules)
    yield "lines", f"{lines:,}"
    yield "modules", str(len(modules))
    loose = [m.name for m in modules if m.name.count(".") == 1 and m.name.startswith("perennial.")]
    rooms = {m.name.rsplit(".", 1)[0] for m in modules if m.name.count(".") > 1}
    yield "loose modules of `perennial`", str(len([name for name in loose if name not in rooms]))

    arrows = find_imports(modules)
    between = {(a.package, b.package) for a, b in arrows if a.package != b.package}
    yield "packages", str(len({module.package for module in modules}))
    yield "arrows between packages", str(len(between))
    yield "circles of packages", describe_circles(find_circles(between))
    yield (
        "circles of modules",
        describe_circles(find_circles({(a.name, b.name) for a, b in arrows})),
    )
    steps = [(a, b) for a, b in arrows if _is_step(a) and _is_step(b) and a.package != b.package]
    pairs = {(a.package, b.package) for a, b in steps}
    yield "imports between steps", f"{len(steps)} over {len(pairs)} pairs"

    gerunds = [module.name for module in modules if module.name.endswith("ing")]
    yield "modules named in -ing", str(len(gerunds))
    openers = Counter(find_openers(modules))
    total, other = (
        sum(openers.values()),
        Counter({w: n for w, n in openers.items() if not is_verb(w)}),
    )
    common = ", ".join(f"{word} {count}" for word, count in other.most_common(5))
    yield (
        "docstrings of functions that do not open with a verb",
        f"{sum(other.values())} of {total} ({common})",
    )
    once, short = count_helpers(modules)
    yield "private helpers used once, per 1,000 lines", f"{once / lines * 1000:.1f}"
    yield f"of them with at most {SHORT_BODY} lines, per 1,000 lines", f"{short / lines * 1000:.1f}"
    long = sum(len(line) > LONGEST_LINE for module in modules for line in module.text.splitlines())
    yield f"lines over {LONGEST_LINE}", str(long)
    yield f"runs of {REPEATED_LINES} lines that stand twice", str(count_repeats(modules))


def find_imports(modules: list[Module]) -> list[tuple[Module, Module]]:
    """Finds which module imports which, also within functions.

    Imports for type checkers alone are left out.
    """
    by_name = {module.name: module for module in modules}
    pairs = []
    for module in modules:
        names = {name for name in _imported(module.tree) if name.split(".")[0] in PACKAGES}
        targets = {
            by_name[target]
            for name in names
            if (target := _nearest(name, by_name)) and target != module.name
        }
        pairs += [(module, target) for target in sorted(targets, key=lambda target: target.name)]
    return pairs


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from _imported(node)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The module that a dotted name is in: the name itself, or what is left of its last dot."""
    parent = name.rpartition(".")[0]
    return next((candidate for candidate in (name, parent) if candidate in known), None)


def _is_step(module: Module) -> bool:
    return module.package.startswith("components.")


def find_circles(arrows: set[tuple[str, str]]) -> list[list[str]]:
    """Finds the groups in which everything reaches everything else, by their arrows."""
    targets: dict[str, set[str]] = {}
    for start, end in arrows:
        targets.setdefault(start, set()).add(end)
    reach = {name: _reachable(name, targets) for name in targets}
    groups = {
        frozenset(n for n in reach[name] if name in reach.get(n, ()))
        for name in reach
        if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)


def _reachable(start: str, targets: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = targets.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def describe_circles(circles: list[list[str]]) -> str:
    """Writes how many circles there are, and who stands in them."""
    return (
        "0"
        if not circles
        else f"{len(circles)}: " + "; ".join(", ".join(circle) for circle in circles)
    )


def find_openers(modules: list[Module]) -> Iterator[str]:
    """Gives the first word of the docstring of every function and method."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, Function) and (docstring := ast.get_docstring(node)):
                yield docstring.split()[0].strip(".,:`")


def is_verb(word: str) -> bool:
    """Tells whether a docstring's first word reads as a verb, such as "Writes"."""
    return (
        word.isalpha()
        and word.endswith("s")
        and not word.endswith("ss")
        and word.lower() not in NOUNS
    )


def count_helpers(modules: list[Module]) -> tuple[int, int]:
    """Counts private functions that their module uses once, and those with a short body."""
    once = short = 0
    for module in modules:
        for node in ast.walk(module.tree):
            if (
                not isinstance(node, Function)
                or not node.name.startswith("_")
                or node.name.startswith("__")
            ):
                continue
            if len(re.findall(rf"\b{node.name}\b", module.text)) == 2:  # its definition and one use
                once += 1
                body = node.body[1:] if ast.get_docstring(node) else node.body
                short += bool(body) and body[-1].end_lineno - body[0].lineno < SHORT_BODY  # type: ignore[operator]
    return once, short


def count_repeats(modules: list[Module]) -> int:
    """Counts runs of code lines that stand in the tree more than once.

    Imports and closing brackets do not count.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    for module in modules:
        lines = [line.strip() for line in module.text.splitlines()]
        code = [
            line
            for line in lines
            if len(line) > 3 and not line.startswith(("import ", "from ", "#", '"""'))
        ]
        seen.update(
            {tuple(code[i : i + REPEATED_LINES]) for i in range(len(code) - REPEATED_LINES + 1)}
        )
    return sum(count > 1 for count in seen.values())


if __name__ == "__main__":
    main()
