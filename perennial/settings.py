"""Reading `project.yaml`.

What is wrong with a setting, in words that name the key and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from perennial.errors import ProjectError
from schemas.project import ProjectSettings

SETTINGS_FILE = "project.yaml"
# Places that differ between a laptop and a cluster, URLs that may hold a password, and what CI has
# just built: each comes from its variable where that is set.
VARIABLES = {
    "PERENNIAL_STATE": ("state",),
    "PERENNIAL_ROOT": ("root",),
    "PERENNIAL_LEDGER_URL": ("ledger", "url"),
    "PERENNIAL_REGISTRY_URI": ("registry", "uri"),
    "PERENNIAL_TOKEN_FILE": ("serving", "tokens"),
    "PERENNIAL_TABLE_URL": ("data", "table", "url"),
    "PERENNIAL_KUBEFLOW_ENDPOINT": ("kubeflow", "endpoint"),
    "PERENNIAL_KUBEFLOW_NAMESPACE": ("kubeflow", "namespace"),
    "PERENNIAL_KUBEFLOW_IMAGE": ("kubeflow", "image"),
}


def parse_settings(text: str, environment: Mapping[str, str] | None = None) -> ProjectSettings:
    """Parses the text of a `project.yaml`.

    Args:
        text: The file's.
        environment: Variables; those of `VARIABLES` come before the file.

    Raises:
        ProjectError: It is not YAML, or a key is unknown, missing or wrong.
    """
    try:
        values = _load_yaml(text)
    except yaml.YAMLError as error:
        raise ProjectError(
            SETTINGS_FILE, "must be YAML", error, "Correct the line that is named."
        ) from None
    if not isinstance(values, dict):
        raise ProjectError(
            SETTINGS_FILE,
            "must hold settings",
            type(values).__name__,
            "Start from `perennial init`.",
        )
    for variable, keys in VARIABLES.items():
        value = (environment or {}).get(variable)
        if value:
            _set(values, keys, value)
    try:
        return ProjectSettings.model_validate(values)
    except ValidationError as error:
        raise _settings_error(error) from None


def _load_yaml(text: str) -> Any:
    """Reads YAML by libyaml, in a tenth of the time of PyYAML's own parser: every step does.

    Raises:
        YAMLError: It is not YAML, in the words of PyYAML's own parser, which show the line.
    """
    try:
        return yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError:
        return yaml.safe_load(text)


def _set(values: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    """Sets a value of nested settings; that of a table only where the project reads one."""
    *sections, name = keys
    place: Any = values
    for section in sections:
        if section == "table" and not isinstance(place.get(section), dict):
            return
        place = place.setdefault(section, {})
        if not isinstance(place, dict):  # the file is wrong there, which is told of the file
            return
    place[name] = value


def _settings_error(error: ValidationError) -> ProjectError:
    problems = [
        _describe(item["type"], item["loc"], item["msg"], item["input"]) for item in error.errors()
    ]
    first = problems[0]
    if len(problems) > 1:
        first.args = ("\n".join(str(problem) for problem in problems),)
    return first


def _describe(
    kind: str, location: tuple[int | str, ...], message: str, received: object
) -> ProjectError:
    where = f"{SETTINGS_FILE}: {'.'.join(map(str, location))}" if location else SETTINGS_FILE
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, 1, cutoff=0.5)
        remedy = f"Did you mean `{near[0]}`?" if near else "Remove it."
        return ProjectError(
            where, f"must be one of the known keys ({', '.join(known)})", location[-1], remedy
        )
    if kind == "missing":
        return ProjectError(
            where, "must be set", "nothing", "Add it; docs/settings.md tells what it means."
        )
    if kind == "value_error":
        clause, _, value = message.removeprefix("Value error, ").partition(". Received: ")
        return ProjectError(
            where, f"must hold together: {clause}", value, "docs/settings.md tells the bounds."
        )
    expected = (
        message.replace("Input should be", "must be")
        .replace("String should", "must")
        .replace("List should", "must")
    )
    return ProjectError(where, expected, repr(received), "docs/settings.md tells the bounds.")


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = ProjectSettings
    for part in location:
        if isinstance(part, int):  # the place in a list, whose kind the key before it told
            continue
        annotation = model.model_fields[str(part)].annotation
        kinds = [
            kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)
        ]  # `X | None` too
        inner = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)
