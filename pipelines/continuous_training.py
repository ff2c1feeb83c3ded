"""The loop: what runs and in what order, from landed labels to a deployed model."""

from kfp import dsl

from components.analyse_features.component import analyse_features
from components.check_examples.component import check_examples
from components.compare_designs.component import compare_designs
from components.compute_statistics.component import compute_statistics
from components.conclude_run.component import conclude_run
from components.decide_promotion.component import decide_promotion
from components.evaluate_model.component import evaluate_model
from components.ingest_examples.component import ingest_examples
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

NAME = "continuous-training"


@dsl.pipeline(name=NAME, description="From landed labels to a deployed model.")
def continuous_training(project: str, run: str = "", retrain: bool = False, tune: bool = False, attempt: int = 0):
    """One run of the loop.

    Args:
        project: Path of the project folder, as every step sees it.
        run: Name of the run; empty: Kubeflow's own.
        retrain: Train even though nothing new has landed.
        tune: Train, and search for hyperparameters even though an earlier search is still good.
        attempt: Repetition of a run whose candidate was not good enough, from 1: train with other draws. 0: none.

    What reads or writes the ledger or the registry is never cached; everything else is, by its inputs, so a run
    that was cut short goes on where it stopped and a daily run ingests one span.
    """
    selected = select_spans(
        project=project,
        run=run,
        job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        retrain=retrain,
        tune=tune,
        attempt=attempt,
    )
    selected.set_caching_options(False)
    selection = selected.outputs["selection"]
    digest = selected.outputs["project_digest"]

    with dsl.If(selected.outputs["work"] == "train", name="something-new"):
        with dsl.ParallelFor(selected.outputs["window"], name="each-span") as span:
            ingested = ingest_examples(project=project, digest=selected.outputs["data_digest"], span=span)
            checked = check_examples(
                project=project, digest=selected.outputs["rules_digest"], examples=ingested.outputs["examples"]
            )
            measured = compute_statistics(
                project=project, digest=selected.outputs["schema_digest"], examples=checked.outputs["checked"]
            )

        validated = validate_data(
            project=project,
            digest=selected.outputs["checks_digest"],
            new_spans=selected.outputs["new_spans"],
            released=selected.outputs["released"],
            examples=dsl.Collected(checked.outputs["checked"]),
            statistics=dsl.Collected(measured.outputs["statistics"]),
        )
        window, validation = validated.outputs["window"], validated.outputs["validation"]

        with dsl.If(validated.outputs["Output"] == "accepted", name="data-accepted"):
            analysed = analyse_features(project=project, digest=digest, window=window)
            transformed = transform_features(
                project=project, digest=digest, window=window, graph=analysed.outputs["graph"]
            )
            features = transformed.outputs["features"]
            pretrained = pretrain_learner(
                project=project, digest=digest, unlabelled=selected.outputs["unlabelled"], features=features
            )
            pretraining = pretrained.outputs["pretrained"]
            stabilised = stabilise_weights(
                project=project,
                digest=digest,
                features=features,
                pretrained=pretraining,
                tuned=selected.outputs["tuned"],
                seed=selected.outputs["seed"],
            )
            weights = stabilised.outputs["weights"]
            tuned = tune_model(
                project=project,
                digest=digest,
                features=features,
                weights=weights,
                validation=validation,
                tuned=selected.outputs["tuned"],
                reason=selected.outputs["tune_reason"],
            )
            hyperparameters = tuned.outputs["hyperparameters"]
            compared = compare_designs(project=project, digest=digest, features=features)

            with dsl.ParallelFor(selected.outputs["instances"], name="each-instance") as instance:
                trained = train_model(
                    project=project,
                    digest=digest,
                    instance=instance,
                    champion=selected.outputs["champion"],
                    window=window,
                    features=features,
                    weights=weights,
                    hyperparameters=hyperparameters,
                )

            evaluated = evaluate_model(
                project=project,
                digest=digest,
                champion=selected.outputs["champion"],
                served=selected.outputs["served"],
                window=window,
                validation=validation,
                models=dsl.Collected(trained.outputs["model"]),
            )
            evaluation, model = evaluated.outputs["evaluation"], evaluated.outputs["model"]
            probed = probe_model(project=project, digest=digest, window=window, evaluation=evaluation, model=model)
            probing = probed.outputs["probing"]
            decided = decide_promotion(project=project, digest=digest, evaluation=evaluation, probing=probing)
            decision = decided.outputs["decision"]
            registered = register_model(
                project=project,
                selection=selection,
                evaluation=evaluation,
                probing=probing,
                decision=decision,
                model=model,
            )
            registered.set_caching_options(False)

            findings = {
                "project": project,
                "selection": selection,
                "version": registered.output,
                "validation": validation,
                "pretraining": pretraining,
                "weights": weights,
                "tuning": hyperparameters,
                "designs": compared.outputs["designs"],
                "evaluation": evaluation,
                "probing": probing,
                "decision": decision,
            }
            with dsl.If(decided.outputs["Output"] == "promote", name="promoted"):
                checked = validate_serving(
                    project=project, version=registered.output, window=window, evaluation=evaluation, model=model
                )
                serving_check = checked.outputs["serving_check"]
                pushed = push_model(
                    project=project, selection=selection, version=registered.output, serving_check=serving_check
                )
                pushed.set_caching_options(False)
                concluded = conclude_run(outcome="promoted", serving_check=serving_check, **findings)
                concluded.after(pushed).set_caching_options(False)
            with dsl.Else(name="kept"):
                conclude_run(outcome="kept_champion", **findings).set_caching_options(False)
        with dsl.Else(name="data-rejected"):
            conclude_run(
                project=project, outcome="data_rejected", selection=selection, validation=validation
            ).set_caching_options(False)
    with dsl.Else(name="nothing-new"):
        conclude_run(project=project, outcome="nothing_new", selection=selection).set_caching_options(False)
