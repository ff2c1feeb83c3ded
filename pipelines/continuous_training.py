"""The loop: what runs and in what order, from landed labels to a deployed model."""

from typing import Any

from kfp import dsl
from kfp.dsl import graph_component, pipeline_context

from components.analyse_features.component import analyse_features
from components.compare_designs.component import compare_designs
from components.conclude_run.component import conclude_run
from components.decide_promotion.component import decide_promotion
from components.evaluate_model.component import evaluate_model
from components.prepare_span.component import prepare_span
from components.pretrain_learner.component import pretrain_learner
from components.probe_model.component import probe_model
from components.push_model.component import push_model
from components.register_model.component import register_model
from components.select_spans.component import select_spans
from components.stabilise_weights.component import stabilise_weights
from components.train_model.component import train_model
from components.transform_features.component import transform_features
from components.tune_model.component import tune_model
from components.validate_data.component import validate_data
from components.validate_serving.component import validate_serving
from perennial.training.stages import Stages
from pipelines.cluster import pipeline_config, place_tasks
from schemas.project import KubeflowSettings

NAME = "continuous-training"
Outputs = dict[str, Any]


def continuous_training(
    stages: Stages,
    project_name: str | None = None,
    kubeflow: KubeflowSettings | None = None,
    on_workers: bool = False,
) -> graph_component.GraphComponent:
    """Makes the pipeline with these stages, which asks a cluster for what the settings say.

    Each project has a pipeline of its own name, so that a cluster tells their runs apart.

    What a step makes is kept in the root by what it was made of, so a run that was cut short goes
    on where it stopped, and a daily run prepares one span. Part of that is the digest of what the
    step reads of the project (`perennial.step_inputs`). What reads or writes the ledger or the
    registry is done in every run. Kubeflow's own cache is off: a task that it left out would leave
    nothing for the end of the run, and where a result lies in the root, a task takes seconds.

    The run's name is no parameter, so that a schedule, whose parameters never change, cannot give
    several runs one name: each task reads it from its surroundings
    (`perennial.ledger.task_lease`).

    Kubeflow's backend asks for two things that the compiler does not: no name for a loop whose
    outputs are collected, and dictionaries in every list that is looped over. kfp.local asks for a
    third: an If that has no Else reads an output that is named `Output`, else it is skipped.
    """
    name = f"{NAME}-{project_name}" if project_name else NAME
    config = pipeline_config(kubeflow) if kubeflow is not None else None
    parallelism = kubeflow.parallelism if kubeflow is not None else None

    @dsl.pipeline(
        name=name,
        description="From landed labels to a deployed model.",
        pipeline_config=config,
    )
    def pipeline(
        project: str,
        retrain: bool = False,
        tune: bool = False,
        attempt: int = 0,
        trigger: str = "hand",
    ):
        """One run of the loop.

        Args:
            project: Reference to the project's package, or the path of its folder, as every step
                sees it.
            retrain: Train even though nothing new has landed.
            tune: Train, and search for hyperparameters even though an earlier search is still good.
            attempt: Repetition of a run whose candidate was not good enough, from 1: train with
                other draws. 0: none, unless one is due.
            trigger: What begins the run: hand, ci, schedule, landing, labels, drift or metrics.
        """
        with dsl.ExitHandler(conclude_run(project=project), name="run"):
            selected = select_spans(
                project=project,
                stages=stages.names,
                retrain=retrain,
                tune=tune,
                attempt=attempt,
                trigger=trigger,
            )
            chosen = selected.outputs
            with dsl.If(chosen["Output"] == "train", name="something-new"):
                validated = _validate_window(project, chosen, parallelism)
                with dsl.If(validated["Output"] == "accepted", name="data-accepted"):
                    trained = _train_models(project, stages, chosen, validated, parallelism)
                    _judge_candidate(project, stages, chosen, validated, trained)
        tasks = pipeline_context.Pipeline.get_default_pipeline().tasks
        for task in tasks.values():
            task.set_caching_options(False)
        if kubeflow is not None:
            place_tasks(tasks, kubeflow, on_workers)

    return pipeline


def _validate_window(project: str, selected: Outputs, parallelism: int | None) -> Outputs:
    """Gives the outputs of `validate_data`."""
    with dsl.ParallelFor(selected["pending"], parallelism=parallelism) as span:
        prepared = prepare_span(project=project, span=span, selection=selected["selection"])
    validated = validate_data(
        project=project,
        digest=selected["validate_data_digest"],
        selection=selected["selection"],
    )
    # What it reads of the spans lies in the root: where none had to be prepared, there is nothing
    # to collect, which Kubeflow's backend cannot do.
    validated.after(prepared)
    outputs: Outputs = validated.outputs
    return outputs


def _train_models(
    project: str,
    stages: Stages,
    selected: Outputs,
    validated: Outputs,
    parallelism: int | None,
) -> Outputs:
    """Gives all instances as `models`, and what each stage that is there made, by its name."""
    window = validated["window"]
    analysed = analyse_features(
        project=project, digest=selected["analyse_features_digest"], window=window
    )
    transformed = transform_features(
        project=project,
        digest=selected["transform_features_digest"],
        window=window,
        graph=analysed.outputs["graph"],
    )
    inputs: Outputs = {"project": project, "features": transformed.outputs["features"]}
    made: Outputs = {}
    if stages.compare_designs:
        compared = compare_designs(digest=selected["compare_designs_digest"], **inputs)
        made["designs"] = compared.outputs["designs"]
    if stages.pretrain_learner:
        pretrained = pretrain_learner(
            digest=selected["pretrain_learner_digest"], unlabelled=selected["unlabelled"], **inputs
        )
        made["pretraining"] = pretrained.outputs["pretraining"]
    if stages.stabilise_weights:
        made["weights"] = stabilise_weights(
            digest=selected["stabilise_weights_digest"],
            **_those(made, "pretraining"),
            **({"tuned": selected["tuned"]} if stages.tune_model else {}),
            seed=selected["seed"],
            **inputs,
        ).outputs["weights"]
    if stages.tune_model:
        made["hyperparameters"] = tune_model(
            digest=selected["tune_model_digest"],
            **_those(made, "weights"),
            validation=validated["validation"],
            tuned=selected["tuned"],
            reason=selected["tune_reason"],
            **inputs,
        ).outputs["hyperparameters"]
    with dsl.ParallelFor(selected["instances"], parallelism=parallelism) as instance:
        trained = train_model(
            digest=selected["train_model_digest"],
            instance=instance,
            champion=selected["champion"],
            window=window,
            **_those(made, "weights", "hyperparameters"),
            **inputs,
        )
    return made | {"models": dsl.Collected(trained.outputs["model"])}


def _judge_candidate(
    project: str, stages: Stages, selected: Outputs, validated: Outputs, trained: Outputs
) -> None:
    """Compares the candidate with the champion, and deploys it where the gate says so."""
    window, selection = validated["window"], selected["selection"]
    evaluated = evaluate_model(
        project=project,
        digest=selected["evaluate_model_digest"],
        champion=selected["champion"],
        former=selected["former"],
        serving_log=selected["serving_log"],
        window=window,
        validation=validated["validation"],
        models=trained["models"],
    )
    evaluation, model = evaluated.outputs["evaluation"], evaluated.outputs["model"]
    probing: Outputs = {}
    if stages.probe_model:
        probed = probe_model(
            project=project,
            digest=selected["probe_model_digest"],
            window=window,
            evaluation=evaluation,
            model=model,
        )
        probing["probing"] = probed.outputs["probing"]
    decided = decide_promotion(
        project=project,
        digest=selected["decide_promotion_digest"],
        evaluation=evaluation,
        **probing,
    )
    registered = register_model(
        project=project,
        selection=selection,
        evaluation=evaluation,
        decision=decided.outputs["decision"],
        model=model,
        **probing,
    )
    with dsl.If(decided.outputs["Output"] == "promote", name="promoted"):
        answered = validate_serving(
            project=project,
            digest=selected["validate_serving_digest"],
            version=registered.output,
            window=window,
            evaluation=evaluation,
            model=model,
        )
        push_model(
            project=project,
            selection=selection,
            version=registered.output,
            serving_check=answered.outputs["serving_check"],
        )


def _those(made: Outputs, *names: str) -> Outputs:
    """Gives the outputs of these names whose stage is in the pipeline.

    The inputs that they are for are optional.
    """
    return {name: made[name] for name in names if name in made}
