"""The tree of errors: all that a person sees stand in one module, and its picture shows them."""

from __future__ import annotations

import ast
from pathlib import Path

from perennial import errors

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    name
    for name, member in vars(errors).items()
    if isinstance(member, type) and issubclass(member, errors.PerennialError)
}


def test_no_error_that_a_person_sees_is_defined_elsewhere():
    strays = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for package in ("perennial", "components", "pipelines", "serving", "schemas")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and NAMES & {ast.unparse(base).split(".")[-1] for base in node.bases}
    ]
    assert strays == []


def test_the_picture_shows_every_error_below_its_parent():
    picture = errors.__doc__.splitlines()
    depths = {word: line.index(word) for line in picture for word in line.split() if word in NAMES}
    assert depths.keys() == NAMES
    for name in NAMES - {"PerennialError"}:
        parent = getattr(errors, name).__mro__[1].__name__
        assert depths[name] > depths[parent]
