"""Which steps a project's settings ask for, and what is said where they ask for the impossible."""

import pytest

from perennial.errors import ProjectError
from perennial.runner.project_checks import check_project
from perennial.training.stages import (
    OPTIONAL_STEPS,
    check_search_asked,
    choose_stages,
    verify_stages,
)
from tests.chain import with_settings
from tests.perennial.folders import make_project

RUN_FN = "def preprocessing_fn(inputs): ...\n\n\ndef run_fn(fn_args): ...\n"
TUNER_FN = RUN_FN + "\n\ndef tuner_fn(fn_args): ...\n"


@pytest.fixture
def project(tmp_path):
    """Digits without any probe or explanation."""
    project = make_project(tmp_path / "digits")
    return with_settings(
        project,
        "evaluate",
        explain=project.settings.evaluate.explain.model_copy(update={"examples": 0}),
    )


def switched_on(project, stage):
    evaluate = project.settings.evaluate
    if stage == "compare_designs":
        return with_settings(project, "designs", compare=True)
    if stage == "pretrain_learner":
        return with_settings(project, "pretext", task="rotation")
    if stage == "tune_model":
        return with_settings(project, "tune", trials=2)
    return with_settings(
        project, "evaluate", explain=evaluate.explain.model_copy(update={"examples": 10})
    )


def with_module_text(project, text):
    project.module_path.write_text(text)
    return type(project)(project.folder, project.settings)


def test_without_anything_asked_for_weights_are_stabilised(project):
    assert choose_stages(project).names == ["stabilise_weights"]


@pytest.mark.parametrize(
    "stage", ["pretrain_learner", "tune_model", "compare_designs", "probe_model"]
)
def test_a_setting_adds_its_step_and_makes_the_project_another_one(project, stage):
    """The digest is what Kubeflow's cache finds the results of all later steps by."""
    changed = switched_on(project, stage)
    assert set(choose_stages(changed).names) == {"stabilise_weights", stage}
    assert changed.project_digest() != project.project_digest()


def test_everything_at_once_is_in_the_order_of_the_run(project):
    for stage in ("probe_model", "pretrain_learner", "compare_designs", "tune_model"):
        project = switched_on(project, stage)
    assert choose_stages(project).names == list(OPTIONAL_STEPS)


@pytest.mark.parametrize("budget", [{"trials": 1}, {"minutes": 0.5}])
def test_either_budget_asks_for_a_search(project, budget):
    assert choose_stages(with_settings(project, "tune", **budget)).tune_model


def test_a_suspect_feature_is_probed_though_nothing_is_explained(project):
    covariates = project.settings.evaluate.covariates.model_copy(update={"features": ["date"]})
    assert choose_stages(with_settings(project, "evaluate", covariates=covariates)).probe_model


def test_run_fn_owns_its_weights_and_searches_only_by_its_tuner_fn(project):
    assert choose_stages(with_module_text(project, RUN_FN)).names == []
    tuned = with_settings(with_module_text(project, TUNER_FN), "tune", trials=2)
    assert choose_stages(tuned).names == ["tune_model"]


@pytest.mark.parametrize(
    "section, changes, message",
    [
        (
            "pretext",
            {"task": "rotation"},
            "project.yaml: pretext.task must be none, as the module's `run_fn` owns its",
        ),
        (
            "tune",
            {"minutes": 1.0},
            "project.yaml: tune must have no budget, as the module's `run_fn` chooses its own",
        ),
    ],
)
def test_a_step_that_run_fn_has_no_place_for_is_refused_before_a_run(
    project, section, changes, message
):
    project = with_settings(with_module_text(project, RUN_FN), section, **changes)
    with pytest.raises(ProjectError, match=message):
        check_project(project)


def test_a_pipeline_that_was_compiled_for_other_settings_is_refused(project):
    verify_stages(project, ["stabilise_weights"])
    with pytest.raises(ProjectError) as raised:
        verify_stages(switched_on(project, "tune_model"), ["stabilise_weights"])
    assert "must have the steps that the settings ask for (stabilise_weights, tune_model)" in str(
        raised.value
    )
    assert "Received: one that was compiled with stabilise_weights. Compile it again" in str(
        raised.value
    )
    with pytest.raises(ProjectError, match="compiled with none of them"):
        verify_stages(project, [])


def test_a_search_can_be_asked_for_only_where_there_is_a_budget(project):
    check_search_asked(switched_on(project, "tune_model"))
    with pytest.raises(ProjectError, match=r"project\.yaml: tune must have a budget for --tune"):
        check_search_asked(project)
