"""Checks of a whole project: everything that can be checked without data or heavy libraries."""

from __future__ import annotations

import difflib

from perennial.errors import ProjectError
from perennial.project import NATIVE, PREPROCESSING, RUN_FN, Project, read_text
from perennial.settings import SETTINGS_FILE
from perennial.step_inputs import SCHEMA_FILE
from perennial.tasks import METRICS
from perennial.training.stages import choose_stages
from perennial.user_module import defined_names
from schemas.project import ProjectSettings


def check_project(project: Project) -> None:
    """Checks everything about a project that can be checked without data or heavy libraries.

    Raises:
        ProjectError: The first mistake found.
    """
    _check_module(project)
    names = {feature.name: feature for feature in project.schema.feature}
    settings = project.settings
    wanted = {"label": settings.label, "data.key": settings.data.key}
    wanted |= _judged_features(settings)
    for setting, name in wanted.items():
        if name not in names:
            raise _unknown_feature(setting, name, list(names))
    _check_tasks(project)
    _check_judgement(project)
    choose_stages(project)
    _ = project.expectations


def _check_module(project: Project) -> None:
    path = project.module_path
    read_text(path)
    names = defined_names(path)
    found = ", ".join(sorted(names)) or "nothing"
    remedy = "See examples/digits/model.py."
    if PREPROCESSING not in names:
        raise ProjectError(path.name, f"must define `{PREPROCESSING}`", f"it defines {found}", remedy)
    if NATIVE not in names and RUN_FN not in names:
        expected = f"must define `{NATIVE}` or TFX's `{RUN_FN}`"
        raise ProjectError(path.name, expected, f"it defines {found}", remedy)


def _check_tasks(project: Project) -> None:
    """Checks that the labels are of the tasks' kinds, and that the gate's metric is one of the first task."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    label = next(feature for feature in project.schema.feature if feature.name == project.settings.label)
    kind = schema_pb2.FeatureType.Name(label.type)
    if kind not in project.label_types:
        fits = " or ".join(project.label_types)
        number = next(i for i, task in enumerate(project.tasks) if task.label == label.name)
        remedy = f"Land such values, or name the transformed label in model.tasks[{number}].label."
        expected = f"must be {fits}, as the {project.tasks[number].kind} task `{project.tasks[number].name}` reads it"
        raise ProjectError(f"{SCHEMA_FILE}: {label.name}", expected, kind, remedy)
    first, metric = project.tasks[0], project.settings.gate.metric
    if metric not in METRICS[first.kind]:
        where, expected = f"{SETTINGS_FILE}: gate.metric", f"must be a metric of the {first.kind} task `{first.name}`"
        known = ", ".join(METRICS[first.kind])
        raise ProjectError(where, f"{expected} ({known})", metric, f"Set it to {METRICS[first.kind][0]}.")


def _judged_features(settings: ProjectSettings) -> dict[str, str]:
    """Setting -> the feature that it names, of all that say how a model is judged."""
    evaluate = settings.evaluate
    lists = {"slices": evaluate.slices, "fairness.features": evaluate.fairness.features}
    lists |= {"covariates.features": evaluate.covariates.features}
    lists |= {f"crosses[{i}]": cross for i, cross in enumerate(evaluate.crosses)}
    found = {f"evaluate.{key}[{i}]": name for key, names in lists.items() for i, name in enumerate(names)}
    if evaluate.group is not None:
        found["evaluate.group"] = evaluate.group
    return found | {f"features.{name}": name for name in settings.features}


def _check_judgement(project: Project) -> None:
    """Checks that what the gate is to read will be measured."""
    settings, first = project.settings, project.tasks[0]
    method, known = settings.evaluate.serving, METRICS[first.kind]
    for metric in settings.gate.floors:
        if metric not in known:
            where = f"{SETTINGS_FILE}: gate.floors.{metric}"
            expected = f"must be a metric of the {first.kind} task `{first.name}` ({', '.join(known)})"
            raise ProjectError(where, expected, metric, "Set a floor of one of them.")
    if settings.gate.distribution == "serving" and method == "none":
        where, remedy = f"{SETTINGS_FILE}: gate.distribution", "Set evaluate.serving to label_shift or covariate_shift."
        raise ProjectError(where, "must be `test` while nothing is re-weighted", "serving", remedy)
    if method != "none" and settings.data.serving_log is None:
        where, remedy = f"{SETTINGS_FILE}: evaluate.serving", "Set data.serving_log to the files of served requests."
        raise ProjectError(where, "must have a serving log to estimate from", "no data.serving_log", remedy)
    if method == "label_shift" and not first.is_classes:
        where, remedy = f"{SETTINGS_FILE}: evaluate.serving", "Set it to covariate_shift."
        raise ProjectError(where, f"must fit the task `{first.name}`", "label_shift of a regression", remedy)


def _unknown_feature(setting: str, name: str, known: list[str]) -> ProjectError:
    remedy = (
        f"Did you mean `{near[0]}`?" if (near := difflib.get_close_matches(name, known, 1)) else "Name one of them."
    )
    expected = f"must be a feature of {SCHEMA_FILE} ({', '.join(known)})"
    return ProjectError(f"{SETTINGS_FILE}: {setting}", expected, name, remedy)
