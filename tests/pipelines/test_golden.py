"""The compiled pipeline is what the repository says it is, and Kubeflow can read it."""

from pathlib import Path

import pytest
import yaml

from pipelines.compile import compile_pipeline

GOLDEN = Path(__file__).parents[2] / "pipelines" / "compiled" / "continuous_training.yaml"
STAGES = [
    "select-spans",
    "ingest-examples",
    "check-examples",
    "compute-statistics",
    "validate-data",
    "analyse-features",
    "transform-features",
    "pretrain-learner",
    "stabilise-weights",
    "tune-model",
    "compare-designs",
    "train-model",
    "evaluate-model",
    "decide-promotion",
    "register-model",
    "validate-serving",
    "probe-model",
    "push-model",
    "conclude-run",
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(path)
    return path


def test_compiled_pipeline_is_the_golden_one(compiled):
    hint = "run `perennial compile examples/digits -o pipelines/compiled/continuous_training.yaml` and read the diff"
    assert compiled.read_text() == GOLDEN.read_text(), hint


def test_every_stage_is_in_the_pipeline():
    spec = yaml.safe_load(GOLDEN.read_text())
    executed = {name.removeprefix("exec-").rstrip("-0123456789") for name in spec["deploymentSpec"]["executors"]}
    assert executed == set(STAGES)


def test_what_touches_the_ledger_is_never_cached():
    tasks = dict(_tasks(yaml.safe_load(GOLDEN.read_text())))
    uncached = {name.rstrip("-0123456789") for name, task in tasks.items() if not task.get("cachingOptions")}
    leaves = {name for name in uncached if name in STAGES}
    assert leaves == {"select-spans", "register-model", "push-model", "conclude-run"}


def test_run_and_job_are_no_input_of_a_cached_step():
    """Else no run would ever find the results of the run before."""
    spec = yaml.safe_load(GOLDEN.read_text())
    for name, task in _tasks(spec):
        if task.get("cachingOptions") and name.rstrip("-0123456789") in STAGES:
            text = yaml.safe_dump(task.get("inputs", {}))
            assert "selection" not in text and "job" not in text, name


def test_image_and_project_are_set_for_a_cluster(tmp_path):
    path = tmp_path / "cluster.yaml"
    compile_pipeline(path, image="registry.example/perennial:7", project="/projects/digits")
    spec = yaml.safe_load(path.read_text())
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert images == {"registry.example/perennial:7"}
    assert spec["root"]["inputDefinitions"]["parameters"]["project"]["defaultValue"] == "/projects/digits"


def test_cluster_pipeline_is_one_that_kubeflow_loads(tmp_path):
    from kfp import components

    path = tmp_path / "cluster.yaml"
    compile_pipeline(path, image="registry.example/perennial:7", project="/projects/digits")
    loaded = components.load_component_from_file(str(path))
    assert loaded.component_spec.inputs["project"].default == "/projects/digits"


def _tasks(spec):
    dags = [spec["root"], *spec["components"].values()]
    for component in dags:
        yield from component.get("dag", {}).get("tasks", {}).items()
