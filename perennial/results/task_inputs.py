"""Reads what Kubeflow gave a task, so that it can be run once more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from perennial.package.store import parse_reference
from schemas.records import Reference, TaskInputs

PROJECT = "project"  # the parameter that names the project to every step
_OPTION = "--executor_input"  # of the command by which Kubeflow starts a task


def read_task_inputs(command: Sequence[str], step: str, part: str) -> TaskInputs | None:
    """Reads the inputs of a task from its command; None: Kubeflow did not start this process.

    The project is left out but for its package's digest: its URI may hold a password.
    """
    text = dict(pairwise(command)).get(_OPTION)
    if text is None:
        return None
    inputs = json.loads(text).get("inputs", {})
    parameters = dict(inputs.get("parameterValues", {}))
    package = parse_reference(str(parameters.pop(PROJECT, "")))
    return TaskInputs(
        step=step,
        part=part,
        package=package.digest if package is not None else None,
        parameters=parameters,
        artifacts={
            name: [_reference(artifact) for artifact in given.get("artifacts", [])]
            for name, given in inputs.get("artifacts", {}).items()
        },
    )


def _reference(artifact: dict[str, Any]) -> Reference:
    from kfp import dsl

    # Kubeflow knows where on this machine it lies.
    place = dsl.Artifact(uri=artifact["uri"], metadata=artifact.get("metadata")).path
    return Reference.read(Path(place))
