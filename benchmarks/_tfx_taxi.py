"""Runs TFX's own taxi pipeline under its LocalDagRunner.

    python benchmarks/_tfx_taxi.py DATA ROOT TRAIN_STEPS EVAL_STEPS

The components and their wiring are those of
`tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras`, the module is the one that ships
with it. Four things differ, all in TFX's favour or for a fair comparison: the module is named
rather than packed into a wheel and installed in every run, Beam runs in the process rather than in
two started for each component, every model is pushed, as it is on the other side, and the schema is
that which ships with the example: with one that is inferred, a model fails on the first new trip
that lacks what no earlier one lacked.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from perennial.tfx_compat import import_tfdv

EXAMPLE = "tfx.examples.chicago_taxi_pipeline"
MODULE = f"{EXAMPLE}.taxi_utils_native_keras"
ALWAYS = -1e6  # a model whose metric changed by no less than this is blessed


def main() -> None:
    """Runs the pipeline once, with its cache."""
    data, root = map(Path, sys.argv[1:3])
    train_steps, eval_steps = map(int, sys.argv[3:5])
    import_tfdv()
    from tfx.orchestration import metadata, pipeline
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    root.mkdir(parents=True, exist_ok=True)
    LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="taxi",
            pipeline_root=str(root / "pipeline"),
            components=make_components(data, root / "serving", train_steps, eval_steps),
            enable_cache=True,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(
                str(root / "metadata.db")
            ),
            beam_pipeline_args=["--direct_running_mode=in_memory"],
        )
    )
    if not any((root / "serving").iterdir()):
        sys.exit("error: TFX's pipeline must push a model. Received: none")


def make_components(data: Path, serving: Path, train_steps: int, eval_steps: int) -> list[Any]:
    """The nine components, in order."""
    from tfx import components
    from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.dsl.experimental.latest_blessed_model_resolver import LatestBlessedModelResolver
    from tfx.proto import pusher_pb2, trainer_pb2
    from tfx.types import Channel
    from tfx.types.standard_artifacts import Model, ModelBlessing

    examples = components.CsvExampleGen(input_base=str(data))
    statistics = components.StatisticsGen(examples=examples.outputs["examples"])
    schema = ImportSchemaGen(
        schema_file=str(Path(str(files(EXAMPLE))) / "data/user_provided_schema/schema.pbtxt")
    )
    validator = components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    transform = components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=f"{MODULE}.preprocessing_fn",
    )
    trainer = components.Trainer(
        run_fn=f"{MODULE}.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        train_args=trainer_pb2.TrainArgs(num_steps=train_steps),
        eval_args=trainer_pb2.EvalArgs(num_steps=eval_steps),
    )
    baseline = Resolver(
        strategy_class=LatestBlessedModelResolver,
        model=Channel(type=Model),
        model_blessing=Channel(type=ModelBlessing),
    ).with_id("latest_blessed_model")
    evaluator = components.Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        eval_config=make_eval_config(),
    )
    pusher = components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(serving))
        ),
    )
    return [
        examples,
        statistics,
        schema,
        validator,
        transform,
        trainer,
        baseline,
        evaluator,
        pusher,
    ]


def make_eval_config() -> Any:
    """Accuracy over all examples, beside the model that was blessed before."""
    from tensorflow_model_analysis.proto import config_pb2

    threshold = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": 0.0}),
        change_threshold=config_pb2.GenericChangeThreshold(
            direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute={"value": ALWAYS}
        ),
    )
    metric = config_pb2.MetricConfig(class_name="BinaryAccuracy", threshold=threshold)
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="serving_default",
                label_key="tips_xf",
                preprocessing_function_names=["transform_features"],
            )
        ],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[metric])],
    )


if __name__ == "__main__":
    main()
