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

    `unlabelled` is part of the key: it tells when the files are others.
    """
    from components.pretrain_learner.step import pretrain_learner
    from components.stored_step import StoredStep

    with StoredStep(project, "pretrain_learner", digest, pretraining=pretraining) as step:
        if not step.is_kept(features, unlabelled):
            pretrain_learner(step.project, step.input(features), step.output("pretraining"))
            step.publish()
