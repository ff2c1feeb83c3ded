"""The steps that a project's pipeline has only where its settings ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from perennial.errors import ProjectError
from perennial.project import Project
from perennial.user_module import defined_names

TUNER_FN = "tuner_fn"


@dataclass(frozen=True)
class Stages:
    """Tells of each of these steps, by its name, whether it is in the pipeline.

    All other steps always are.
    """

    pretrain_learner: bool
    stabilise_weights: bool
    tune_model: bool
    compare_designs: bool
    probe_model: bool

    @property
    def names(self) -> list[str]:
        """Gives the names of the steps that are in the pipeline, in the order of the run."""
        return [field.name for field in fields(self) if getattr(self, field.name)]


# Every step that a pipeline may go without.
OPTIONAL_STEPS = tuple(field.name for field in fields(Stages))


def choose_stages(project: Project) -> Stages:
    """Chooses the steps that the settings and the module ask for.

    Raises:
        ProjectError: The settings ask for a step that the module's `run_fn` leaves no place for.
    """
    settings = project.settings
    if project.uses_run_fn:
        _check_run_fn(project)
    return Stages(
        pretrain_learner=settings.pretext.task != "none",
        stabilise_weights=not project.uses_run_fn,
        tune_model=settings.tune.enabled,
        compare_designs=settings.designs.compare,
        probe_model=bool(settings.evaluate.covariates.features)
        or settings.evaluate.explain.examples > 0,
    )


def trains_on_workers(project: Project) -> bool:
    """Tells whether a cluster trains instances on other pods than that of `train_model`."""
    return project.settings.train.on_workers and not project.uses_run_fn


def verify_stages(project: Project, compiled: Sequence[str]) -> None:
    """Checks that a pipeline was compiled for the project's settings as they are.

    Args:
        project: As the run sees it.
        compiled: Names of the steps that the pipeline has because the settings asked for them.

    Raises:
        ProjectError: They ask for other steps now.
    """
    required = choose_stages(project).names
    if list(compiled) != required:
        raise ProjectError(
            where="the compiled pipeline",
            expected=f"must have the steps that the settings ask for ({_listed(required)})",
            received=f"one that was compiled with {_listed(compiled)}",
            remedy="Compile it again with `perennial compile`.",
        )


def check_search_asked(project: Project) -> None:
    """Checks that there is a search for hyperparameters for a person to ask for.

    Raises:
        ProjectError: There is no budget for one.
    """
    if not project.settings.tune.enabled:
        raise ProjectError(
            where="project.yaml: tune",
            expected="must have a budget for --tune",
            received="neither trials nor minutes",
            remedy="Set tune.trials or tune.minutes.",
        )


def _check_run_fn(project: Project) -> None:
    settings, module = project.settings, project.module_path.name
    if settings.pretext.task != "none":
        raise ProjectError(
            where="project.yaml: pretext.task",
            expected=f"must be none, as the module's `run_fn` owns its weights ({module})",
            received=settings.pretext.task,
            remedy="Remove the section, or give the module a `build_model`.",
        )
    if settings.tune.enabled and TUNER_FN not in defined_names(project.module_path):
        raise ProjectError(
            where="project.yaml: tune",
            expected="must have no budget, as the module's `run_fn` chooses its own "
            f"hyperparameters ({module})",
            received="a budget",
            remedy=f"Remove tune.trials and tune.minutes, or give the module a `{TUNER_FN}`, "
            "which then searches.",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none of them"
