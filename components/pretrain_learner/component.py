"""Kubeflow wrapper of `pretrain_learner`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def pretrain_learner(
    project: str,
    digest: str,
    unlabelled: str,
    features: Input[Artifact],
    pretraining: Output[Artifact],
):
    """Pretrains the learner without labels.

    `unlabelled` tells Kubeflow's cache when the files are others.
    """
    from pathlib import Path

    from components.pretrain_learner.step import pretrain_learner
    from perennial.project import open_project

    loaded = open_project(project, "pretrain_learner", digest)
    pretrain_learner(loaded, Path(features.path), Path(pretraining.path))
