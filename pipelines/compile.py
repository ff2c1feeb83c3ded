"""Compiling the pipeline to Kubeflow's IR YAML."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from perennial.storage.atomic import publish_text
from perennial.training.stages import Stages


def compile_pipeline(
    destination: Path, stages: Stages, image: str | None = None, project: str | None = None
) -> None:
    """Writes the pipeline as IR YAML.

    Args:
        destination: The file to write.
        stages: Which steps it has, of those that it may go without.
        image: Image of every step; none: the one that the wrappers name.
        project: Default of the parameter `project`; none: it has to be given when a run is started.
    """
    from kfp import compiler

    from pipelines.continuous_training import continuous_training

    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(continuous_training(stages), str(compiled))
        text = compiled.read_text(encoding="utf-8")
    publish_text(
        text if image is None and project is None else _adapt(text, image, project), destination
    )


def _adapt(text: str, image: str | None, project: str | None) -> str:
    spec: dict[str, Any] = yaml.safe_load(text)
    if image is not None:
        for executor in spec["deploymentSpec"]["executors"].values():
            executor["container"]["image"] = image
    if project is not None:
        parameter = spec["root"]["inputDefinitions"]["parameters"]["project"]
        parameter |= {"defaultValue": project, "isOptional": True}
    return yaml.safe_dump(spec, sort_keys=False)
