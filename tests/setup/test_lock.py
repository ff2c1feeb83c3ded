"""The lock holds what the requirements name, with hashes, and departs from declared bounds only where stated."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import distributions, packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OURS = ["schemas", "perennial", "components", "pipelines", "serving"]


def requirements(file: str) -> list[Requirement]:
    lines = (re.sub(r"\s*(#.*|\\)$", "", line) for line in (ROOT / file).read_text().splitlines())
    return [Requirement(line) for line in lines if re.match(r"[A-Za-z]", line)]


def names(file: str) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements(file)}


def test_lock_holds_every_requirement_and_override_at_a_version_that_fits() -> None:
    locked = {
        canonicalize_name(pin.name): pin
        for pin in requirements("requirements.lock")
        if pin.marker.evaluate()
    }
    for wish in [*requirements("requirements.in"), *requirements("requirements.overrides")]:
        if wish.marker is None or wish.marker.evaluate():
            (pin,) = locked[canonicalize_name(wish.name)].specifier
            assert wish.specifier.contains(pin.version), (
                f"{wish} is not what requirements.lock holds: run make lock"
            )


def test_lock_names_no_registry_and_no_folder_of_a_machine() -> None:
    assert not re.search(
        r"://|--index|--find-links|(^|\s)/\w", (ROOT / "requirements.lock").read_text()
    )


def test_every_line_of_the_lock_has_a_hash() -> None:
    entries = re.split(r"\n(?=[A-Za-z])", (ROOT / "requirements.lock").read_text())[1:]
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_environment_is_the_lock() -> None:
    pins = {
        pin.name: str(pin.specifier)
        for pin in requirements("requirements.lock")
        if pin.marker.evaluate()
    }
    assert {name: f"=={version(name)}" for name in pins} == pins


def test_only_overrides_depart_from_the_bounds_that_packages_declare() -> None:
    departures = set()
    for package in distributions():
        for requirement in map(Requirement, package.requires or []):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and not requirement.specifier.contains(
                version(requirement.name), prereleases=True
            ):
                departures.add(canonicalize_name(requirement.name))
    assert departures <= names("requirements.overrides")


def test_every_library_that_the_product_imports_is_a_direct_requirement() -> None:
    direct = names("requirements.in")
    owners = packages_distributions()
    missing = set()
    for path in (path for folder in OURS for path in (ROOT / folder).rglob("*.py")):
        for module in imported_modules(path):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in OURS or top == "google":
                continue
            if not {canonicalize_name(owner) for owner in owners.get(top, [])} & direct:
                missing.add(f"{path.relative_to(ROOT)}: {top}")
    assert missing == set(), "name them in requirements.in, then run make lock"


def imported_modules(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
