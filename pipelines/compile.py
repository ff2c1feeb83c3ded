"""Compiling the pipeline to Kubeflow's IR YAML."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from perennial.storage.atomic import publish_text
from perennial.training.stages import Stages
from schemas.project import KubeflowSettings


def compile_pipeline(
    destination: Path,
    stages: Stages,
    project_name: str | None = None,
    kubeflow: KubeflowSettings | None = None,
    on_workers: bool = False,
) -> dict[str, Any]:
    """Writes the pipeline as IR YAML; gives its specification.

    Args:
        destination: The file to write.
        stages: Which steps it has, of those that it may go without.
        project_name: Part of the pipeline's name.
        kubeflow: What tasks ask of a cluster, their image, and the default of the parameter
            `project`; none: for this machine.
        on_workers: Whether instances train on pods of their own, which `train_model` waits for.
    """
    from kfp import compiler

    from pipelines.continuous_training import continuous_training

    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        pipeline = continuous_training(stages, project_name, kubeflow, on_workers)
        compiler.Compiler().compile(pipeline, str(compiled))
        text = compiled.read_text(encoding="utf-8")
    spec, platform = read_documents(text)
    if kubeflow is not None:
        _adapt(spec, kubeflow.image, kubeflow.project)
        text = yaml.safe_dump_all([spec, platform] if platform else [spec], sort_keys=False)
    publish_text(text, destination)
    return dict(spec)


def read_documents(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a compiled pipeline: its specification, and what a platform adds, which may be empty.

    By libyaml, which takes a tenth of the time of PyYAML's own parser: 0.3 s for the loop.
    """
    spec, platform, *_ = (*yaml.load_all(text, yaml.CSafeLoader), {})
    return spec, platform


def _adapt(spec: dict[str, Any], image: str | None, project: str | None) -> None:
    if image is not None:
        for executor in spec["deploymentSpec"]["executors"].values():
            executor["container"]["image"] = image
    if project is not None:
        parameter = spec["root"]["inputDefinitions"]["parameters"]["project"]
        parameter |= {"defaultValue": project, "isOptional": True}
