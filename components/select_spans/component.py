"""Kubeflow wrapper of `select_spans`."""

from typing import List, NamedTuple  # noqa: UP035  Kubeflow reads this spelling

from kfp.dsl import Artifact, Output

from components.kubeflow import component


@component()
def select_spans(
    project: str,
    stages: list,  # type: ignore[type-arg]
    retrain: bool,
    tune: bool,
    attempt: int,
    trigger: str,
    selection: Output[Artifact],
) -> NamedTuple(  # type: ignore[valid-type]
    "Selected",
    [
        ("Output", str),
        ("pending", List[dict]),  # noqa: UP006
        ("champion", dict),
        ("former", list),
        ("instances", List[dict]),  # noqa: UP006
        ("tuned", str),
        ("tune_reason", str),
        ("unlabelled", str),
        ("serving_log", str),
        ("seed", int),
        ("validate_data_digest", str),
        ("analyse_features_digest", str),
        ("transform_features_digest", str),
        ("compare_designs_digest", str),
        ("pretrain_learner_digest", str),
        ("stabilise_weights_digest", str),
        ("tune_model_digest", str),
        ("train_model_digest", str),
        ("evaluate_model_digest", str),
        ("probe_model_digest", str),
        ("decide_promotion_digest", str),
        ("validate_serving_digest", str),
    ],
):
    """Chooses what the run works on; `Output` is `train` or `nothing_new`.

    `pending` names the spans that still have to be prepared. The digests are the keys of the other
    steps, in the order of `perennial.step_inputs.STEP_INPUTS`; a step whose digest and other inputs
    stay as they were is not run again.

    `stages` are those that the pipeline was compiled with. Kubeflow's backend takes the items of a
    loop for text unless the list says that they are dictionaries; kfp.local finds the value of a
    condition only in an output of this name.
    """
    from components.select_spans.beginning import begin_run
    from components.select_spans.step import select_spans
    from components.stored_step import StagedTask
    from perennial.spans.prepared import PreparedSpans
    from perennial.spans.window import decide_work
    from perennial.step_inputs import PREPARATION, STEP_INPUTS
    from perennial.storage.watched_files import unlabelled_fingerprint
    from perennial.training.stages import check_search_asked, verify_stages

    with StagedTask(project, "select_spans", place="first") as task:
        verify_stages(task.project, stages)
        if tune:
            check_search_asked(task.project)
        if task.surrounds:
            attempt = begin_run(task.project, attempt, asked=retrain or tune)
        chosen = select_spans(task.project, task.run, tune, attempt, retrain, trigger)
        task.publish_record("select_spans", chosen.run, chosen, selection)
        prepared = PreparedSpans.of_run(task.results, chosen)
        pending = [{"name": span.name} for span in prepared.pending(chosen.window)]
        work = decide_work(chosen.window, chosen.new_spans, asked=retrain or tune or attempt > 0)
        task.returns(work)
        record = chosen.model_dump(mode="json", exclude_none=True)
        return (
            work,
            pending,
            record.get("champion", {}),
            record["former"],
            record["instances"],
            # As text: Kubeflow makes every number of a structure a float, and a layer has no 48.0
            # units.
            chosen.tuned.model_dump_json() if chosen.tuned else "",
            chosen.tune_reason,
            unlabelled_fingerprint(task.project) if work == "train" else "",
            chosen.served,
            chosen.seed,
            *(task.project.digest_of(step) for step in STEP_INPUTS if step not in PREPARATION),
        )
