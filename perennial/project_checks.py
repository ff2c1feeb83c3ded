"""Checks of a project that every run begins with; they need neither data nor heavy libraries."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING

from perennial.data.beam_options import LOCAL_RUNNER, check_beam, workers_are_elsewhere
from perennial.errors import ProjectError
from perennial.production.due import check_schedule
from perennial.production.masked_features import check_masked_features
from perennial.project import NATIVE, PREPROCESSING, RUN_FN, Project, read_text
from perennial.schema.environments import (
    SERVING,
    TRAINING,
    is_alive,
    is_in_environment,
    serving_features,
)
from perennial.settings import SETTINGS_FILE
from perennial.step_inputs import SCHEMA_FILE
from perennial.storage.files import is_url, shown_uri
from perennial.tasks import LOWER_IS_BETTER, METRICS, Task, refuse_bounds
from perennial.training.stages import choose_stages
from perennial.user_module import defined_names
from schemas.project import ProjectSettings

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature

_ONE_LABEL = "A label is one feature: give all of them the same source."
_TPU = "google.com/tpu"
_KIND = "cloud.google.com/gke-tpu-accelerator"
_TOPOLOGY = "cloud.google.com/gke-tpu-topology"
# Chips of the largest machine type with a TPU of each kind. Source: GKE, "Plan TPUs in GKE".
_HOST_CHIPS = {
    "tpu-v3-device": 4,
    "tpu-v3-slice": 4,
    "tpu-v4-podslice": 4,
    "tpu-v5-lite-device": 8,
    "tpu-v5-lite-podslice": 8,
    "tpu-v5p-slice": 4,
    "tpu-v6e-slice": 8,
    "tpu7x": 4,
}


def check_definition(project: Project) -> None:
    """Checks settings, module and schema; the expectations are checked where they are applied.

    Raises:
        ProjectError: There is a mistake; the first one is reported.
    """
    _check_module(project)
    names = {feature.name: feature for feature in project.schema.feature}
    settings = project.settings
    required = {"label": settings.label, "data.key": settings.data.key}
    required |= _features_of_evaluation(settings)
    for number, task in enumerate(settings.model.tasks):
        if task.example_weight is not None:
            required[f"model.tasks[{number}].example_weight"] = task.example_weight
    for setting, name in required.items():
        if name not in names:
            raise _unknown_feature(setting, name, list(names))
    check_masked_features(project, names)
    _check_places(project)
    _check_slice(settings)
    _check_tasks(project)
    _check_label_domain(project)
    _check_weights(project)
    _check_judgement(project)
    _check_roles(project)
    check_schedule(settings.retrain)
    choose_stages(project)


def _check_places(project: Project) -> None:
    """Checks that what a run shares with others lies where they can reach it, as its root does."""
    settings, remote = project.settings, is_url(project.root)
    _check_workers(project)
    places = {
        "ledger.url": (project.ledger_url, "PERENNIAL_LEDGER_URL"),
        "registry.uri": (settings.registry.uri or "sqlite:", "PERENNIAL_REGISTRY_URI"),
    }
    for setting, (place, variable) in places.items():
        if remote and place.startswith("sqlite"):
            raise ProjectError(
                f"{SETTINGS_FILE}: {setting}",
                f"must name a server, as results lie in {shown_uri(project.root)}, where runs of "
                "other machines find them",
                "a file of SQLite on this machine",
                f"Set it, or the environment variable {variable}.",
            )


def _check_workers(project: Project) -> None:
    """Checks that Beam's workers can be had, and reach what they read and write."""
    settings = project.settings
    check_beam(settings.beam)
    if not workers_are_elsewhere(settings.beam):
        return
    runner = settings.beam.runner
    if not _is_remote(project.root):
        raise ProjectError(
            f"{SETTINGS_FILE}: root",
            f"must be a URL that the workers of {runner} reach (beam.runner)",
            "a folder of this machine",
            "Set it, or the environment variable PERENNIAL_ROOT; or set beam.runner to "
            f"{LOCAL_RUNNER}.",
        )
    spans = settings.data.spans
    if spans is not None and not _is_remote(spans):
        raise ProjectError(
            f"{SETTINGS_FILE}: data.spans",
            f"must be a URL that the workers of {runner} reach (beam.runner)",
            spans,
            f"Land files in a store, or set beam.runner to {LOCAL_RUNNER}.",
        )


def _is_remote(location: str) -> bool:
    return is_url(location) and not location.startswith("file://")


def _check_slice(settings: ProjectSettings) -> None:
    """Checks that a TPU of GKE is named whole, and is a slice of one host: one process drives it.

    Source: GKE, "Plan TPUs in GKE": a pod asks for all chips of its node, and names kind and
    topology of the slice; the product of the topology is the chips of the whole slice.
    """
    training = settings.kubeflow.training
    selector = training.node_selector
    kind, topology = selector.get(_KIND), selector.get(_TOPOLOGY)
    if settings.train.strategy != "tpu":
        return
    if training.accelerator != _TPU and topology is None and kind is None:
        return  # no TPU of GKE
    if training.accelerator != _TPU or topology is None or kind is None:
        given = {"accelerator": training.accelerator, _KIND: kind, _TOPOLOGY: topology}
        named = ", ".join(f"{name}: {value}" for name, value in given.items() if value is not None)
        raise ProjectError(
            f"{SETTINGS_FILE}: kubeflow.training",
            f"must name a TPU of GKE by accelerator: {_TPU}, and by {_KIND} and {_TOPOLOGY} in "
            "node_selector, as train.strategy is tpu",
            named,
            "Add what is missing; docs/kubernetes.md shows all three.",
        )
    sizes = topology.split("x")
    chips = math.prod(map(int, sizes)) if all(size.isdecimal() for size in sizes) else 0
    largest = _HOST_CHIPS.get(kind, max(_HOST_CHIPS.values()))
    if chips != training.accelerators or chips > largest:
        raise ProjectError(
            f"{SETTINGS_FILE}: kubeflow.training.node_selector: {_TOPOLOGY}",
            f"must be a slice of one host, of at most {largest} chips of {kind}, with all "
            f"of them (accelerators: {training.accelerators}), as train.strategy tpu drives one "
            "host",
            f"{topology}, {chips} chips",
            "Choose a topology of one host, such as 2x2, and set accelerators to its chips.",
        )


def _check_module(project: Project) -> None:
    path = project.module_path
    read_text(path)
    names = defined_names(path)
    received = f"it defines {', '.join(sorted(names)) or 'nothing'}"
    remedy = "See examples/digits/model.py."
    if PREPROCESSING not in names:
        raise ProjectError(path.name, f"must define `{PREPROCESSING}`", received, remedy)
    if NATIVE not in names and RUN_FN not in names:
        expected = f"must define `{NATIVE}` or TFX's `{RUN_FN}`"
        raise ProjectError(path.name, expected, received, remedy)
    for number, pattern in enumerate(project.settings.model.files):
        if {"..", ""} & set(pattern.split("/")) or not project.files_of_pattern(pattern):
            raise ProjectError(
                f"{SETTINGS_FILE}: model.files[{number}]",
                "must name files beside the module that are in the project's package",
                pattern,
                "Correct the pattern; `perennial package` shows the files.",
            )


def _check_roles(project: Project) -> None:
    """Checks that the schema leaves label and key the roles that the settings give them."""
    settings, schema = project.settings, project.schema
    data = settings.data
    if settings.label == data.key:
        where, expected = f"{SETTINGS_FILE}: data.key", "must be another feature than the label"
        remedy = "Name the column that identifies an example."
        raise ProjectError(where, expected, data.key, remedy)
    features = {feature.name: feature for feature in schema.feature}
    for setting, name in {"label": settings.label, "data.key": data.key}.items():
        feature = features[name]
        landed = is_in_environment(schema, feature, TRAINING)
        if not is_alive(feature) or not landed:
            received = f"it is not in {TRAINING}" if not landed else "it is not in use any more"
            where = f"{SCHEMA_FILE}: {name}"
            expected = f"must be a feature that lands, as {setting} of {SETTINGS_FILE} names it"
            raise ProjectError(where, expected, received, "Correct one of the two files.")
    if settings.label in serving_features(schema):
        where, remedy = f"{SCHEMA_FILE}: {settings.label}", f'Add not_in_environment: "{SERVING}".'
        expected = f"must not be in the environment {SERVING}: clients never send the label"
        raise ProjectError(where, expected, "it is in it", remedy)
    if data.splits.by == "time" and data.window < 2:
        where, remedy = f"{SETTINGS_FILE}: data.window", "Raise it, or set data.splits.by to key."
        expected = "must be at least 2 where data.splits.by is time: one to train on, one to test"
        raise ProjectError(where, expected, data.window, remedy)


def _check_tasks(project: Project) -> None:
    """Checks that the label's type fits the tasks, and the gate's metric the first of them."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    settings = project.settings
    label = next(each for each in project.schema.feature if each.name == settings.label)
    kind = schema_pb2.FeatureType.Name(label.type)
    if kind not in project.label_types:
        fits = " or ".join(project.label_types)
        number = next(i for i, task in enumerate(project.tasks) if task.reads_landed(label.name))
        task = project.tasks[number]
        where = f"{SCHEMA_FILE}: {label.name}"
        expected = f"must be {fits}, as the {task.kind} task `{task.name}` reads it"
        remedy = (
            f"Land such values, or name the transformed label in model.tasks[{number}].label; one "
            f"of the same name needs model.tasks[{number}].label_from: preprocessing_fn."
        )
        raise ProjectError(where, expected, kind, remedy)
    before: list[Task] = []
    for number, task in enumerate(project.tasks):
        if any(task.label == other.label and task.returned != other.returned for other in before):
            where = f"{SETTINGS_FILE}: model.tasks[{number}].label_from"
            expected = f"must be the same for all tasks with the label `{task.label}`"
            raise ProjectError(where, expected, settings.model.tasks[number].label_from, _ONE_LABEL)
        before.append(task)
        if not task.is_classes and task.output != "auto":
            where = f"{SETTINGS_FILE}: model.tasks[{number}].output"
            expected = f"must be auto, as `{task.name}` is a {task.kind} and predicts no classes"
            raise ProjectError(where, expected, task.output, "Leave it out.")
    first, metric = project.tasks[0], settings.gate.metric
    known = METRICS[first.kind]
    if metric not in known:
        where, remedy = f"{SETTINGS_FILE}: gate.metric", f"Set it to {known[0]}."
        expected = f"must be a metric of the {first.kind} task `{first.name}` ({', '.join(known)})"
        raise ProjectError(where, expected, metric, remedy)


def _check_weights(project: Project) -> None:
    """Checks that a feature which weights examples can: one number of at least 0 in every row."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    settings, schema = project.settings, project.schema
    features = {feature.name: feature for feature in schema.feature}
    for number, task in enumerate(project.tasks):
        name = task.example_weight
        if name is None:
            continue
        setting = f"{SETTINGS_FILE}: model.tasks[{number}].example_weight"
        if name in (settings.label, settings.data.key):
            role = "label" if name == settings.label else "key"
            expected = f"must be another feature than the {role}"
            raise ProjectError(setting, expected, name, "Name the column that weights examples.")
        feature = features[name]
        where = f"{SCHEMA_FILE}: {name}"
        if not is_alive(feature) or not is_in_environment(schema, feature, TRAINING):
            expected = "must be a feature that lands and is in use, as it weights examples"
            raise ProjectError(where, expected, "it is not", "Correct one of the two files.")
        if feature.type not in (schema_pb2.INT, schema_pb2.FLOAT):
            received = schema_pb2.FeatureType.Name(feature.type)
            expected = "must be INT or FLOAT, as it weights examples"
            raise ProjectError(where, expected, received, "Land numbers, or name another feature.")
        sizes = [dim.size for dim in feature.shape.dim]
        if not feature.HasField("shape") or any(size != 1 for size in sizes):
            expected = "must have one value in every row (`shape {}`), as it weights examples"
            received = f"the shape {sizes}" if sizes else "no shape"
            raise ProjectError(where, expected, received, "Write `shape {}`, and land every value.")
        low = _least_of(feature)
        if low is not None and low < 0:
            expected = "must allow no value below 0, as it weights examples"
            raise ProjectError(where, expected, f"min {low:g}", "Correct the domain.")


def _least_of(feature: Feature) -> float | None:
    """Gives the least value that a feature's domain allows; None: it has no bound."""
    for name in ("int_domain", "float_domain"):
        if feature.HasField(name) and getattr(feature, name).HasField("min"):
            return float(getattr(feature, name).min)
    return None


def _check_label_domain(project: Project) -> None:
    """Checks that the tasks take every label that the schema allows, and that there are several."""
    label = next(each for each in project.schema.feature if each.name == project.settings.label)
    kind = next((name for name in ("int_domain", "float_domain") if label.HasField(name)), None)
    if kind is None:
        return
    domain = getattr(label, kind)
    low, high = (
        getattr(domain, side) if domain.HasField(side) else None for side in ("min", "max")
    )
    labels = " ".join(
        f"{side} {bound:g}" for side, bound in (("min", low), ("max", high)) if bound is not None
    )
    where = f"{SCHEMA_FILE}: {label.name}: {kind}"
    for number, task in enumerate(project.tasks):
        if not task.reads_landed(label.name):
            continue
        expected = refuse_bounds(task.kind, low, high)
        if expected is None:
            continue
        raise ProjectError(
            where,
            f"must allow what the {task.kind} task `{task.name}` takes: {expected}",
            labels,
            "Correct the domain and land such labels, or make a label of them in "
            f"preprocessing_fn and name it in model.tasks[{number}].label.",
        )


def _features_of_evaluation(settings: ProjectSettings) -> dict[str, str]:
    """Gives the feature that a setting names, of all settings of how a model is judged."""
    evaluate = settings.evaluate
    lists = {"slices": evaluate.slices, "fairness.features": evaluate.fairness.features}
    lists |= {"covariates.features": evaluate.covariates.features}
    lists |= {f"crosses[{i}]": cross for i, cross in enumerate(evaluate.crosses)}
    features: dict[str, str] = {}
    for key, names in lists.items():
        features |= {f"evaluate.{key}[{i}]": name for i, name in enumerate(names)}
    if evaluate.group is not None:
        features["evaluate.group"] = evaluate.group
    return features | {f"features.{name}": name for name in settings.features}


def _check_judgement(project: Project) -> None:
    """Checks that what the gate is to read will be measured."""
    settings, first = project.settings, project.tasks[0]
    method = settings.evaluate.serving
    known = METRICS[first.kind]
    for metric, floor in settings.gate.floors.items():
        if metric not in known:
            where = f"{SETTINGS_FILE}: gate.floors.{metric}"
            task = f"{first.kind} task `{first.name}`"
            expected = f"must be a metric of the {task} ({', '.join(known)})"
            raise ProjectError(where, expected, metric, "Set a floor of one of them.")
        if not 0 <= floor <= (math.inf if metric in LOWER_IS_BETTER else 1):
            where = f"{SETTINGS_FILE}: gate.floors.{metric}"
            expected = "must be at least 0" if metric in LOWER_IS_BETTER else "must be from 0 to 1"
            raise ProjectError(where, expected, floor, "No model reaches any other.")
    if settings.gate.distribution == "serving" and method == "none":
        where = f"{SETTINGS_FILE}: gate.distribution"
        expected = "must be `test` while nothing is re-weighted"
        remedy = "Set evaluate.serving to label_shift or covariate_shift."
        raise ProjectError(where, expected, "serving", remedy)
    if method != "none" and settings.data.serving_log is None:
        where = f"{SETTINGS_FILE}: evaluate.serving"
        expected = "must have a serving log to estimate from"
        remedy = "Set data.serving_log to the files of served requests."
        raise ProjectError(where, expected, "no data.serving_log", remedy)
    if method != "none" and first.example_weight is not None:
        where = f"{SETTINGS_FILE}: evaluate.serving"
        expected = f"must be none while `{first.example_weight}` weights the examples"
        remedy = "Take model.tasks[0].example_weight or evaluate.serving out."
        raise ProjectError(where, expected, method, remedy)
    if method == "label_shift" and not first.is_classes:
        where = f"{SETTINGS_FILE}: evaluate.serving"
        expected = f"must fit the task `{first.name}`"
        remedy = "Set it to covariate_shift."
        raise ProjectError(where, expected, "label_shift of a regression", remedy)


def _unknown_feature(setting: str, name: str, known: list[str]) -> ProjectError:
    near = difflib.get_close_matches(name, known, 1)
    remedy = f"Did you mean `{near[0]}`?" if near else "Name one of them."
    expected = f"must be a feature of {SCHEMA_FILE} ({', '.join(known)})"
    return ProjectError(f"{SETTINGS_FILE}: {setting}", expected, name, remedy)
