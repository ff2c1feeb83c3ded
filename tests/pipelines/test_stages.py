"""Whatever stages a pipeline has, it has no others, and it keeps the rules of Kubeflow's backend."""

import itertools
import json

import pytest

from perennial.report.headline import STOPS
from perennial.step_inputs import PREPARATION, STEP_INPUTS, readers_of
from perennial.training.stages import OPTIONAL_STEPS, Stages

ALWAYS = {
    "select_spans",
    "prepare_span",
    "validate_data",
    "analyse_features",
    "transform_features",
    "train_model",
    "evaluate_model",
    "decide_promotion",
    "register_model",
    "validate_serving",
    "push_model",
    "conclude_run",
}
# A stage, what it makes, and who reads that where it is there.
READERS = {
    "pretrain_learner": ("pretraining", {"stabilise_weights"}),
    "stabilise_weights": ("weights", {"tune_model", "train_model"}),
    "tune_model": ("hyperparameters", {"train_model"}),
    "compare_designs": ("designs", set()),
    "probe_model": ("probing", {"decide_promotion", "register_model"}),
}


COMBINATIONS = [
    Stages(*present) for present in itertools.product([False, True], repeat=len(OPTIONAL_STEPS))
]


@pytest.fixture(
    scope="module", params=COMBINATIONS, ids=lambda stages: " ".join(stages.names) or "none"
)
def compiled(request):
    """Stages, and the pipeline that has them."""
    from google.protobuf.json_format import MessageToDict

    from pipelines.continuous_training import continuous_training

    return request.param, MessageToDict(continuous_training(request.param).pipeline_spec)


def dags(spec):
    """Each graph: its declared inputs, and its tasks by name."""
    for component in (spec["root"], *spec["components"].values()):
        if "dag" in component:
            yield component.get("inputDefinitions", {}), component["dag"]["tasks"]


def tasks(spec):
    """Each task of a step: the step's name, the task, the inputs that its component declares."""
    for _, inner in dags(spec):
        for task in inner.values():
            component = spec["components"][task["componentRef"]["name"]]
            if "executorLabel" in component:
                step = (
                    component["executorLabel"]
                    .removeprefix("exec-")
                    .rstrip("-0123456789")
                    .replace("-", "_")
                )
                yield step, task, component.get("inputDefinitions", {})


def test_the_steps_are_those_that_were_asked_for(compiled):
    stages, spec = compiled
    assert {step for step, _, _ in tasks(spec)} == ALWAYS | set(stages.names)


def test_the_report_names_every_step_that_a_run_may_end_in():
    on_the_way = [step for _, _, steps, _ in STOPS for step in steps]
    assert sorted([*on_the_way, "conclude_run"]) == sorted(ALWAYS | set(OPTIONAL_STEPS))


def test_the_run_is_told_what_was_compiled(compiled):
    stages, spec = compiled
    (selecting,) = (task for step, task, _ in tasks(spec) if step == "select_spans")
    assert selecting["inputs"]["parameters"]["stages"]["runtimeValue"]["constant"] == stages.names


def test_what_a_stage_makes_reaches_all_who_read_it(compiled):
    stages, spec = compiled
    for stage, (made, readers) in READERS.items():
        reading = {
            step
            for step, task, _ in tasks(spec)
            if made in task.get("inputs", {}).get("artifacts", {})
        }
        present = ALWAYS | set(stages.names)
        assert reading == (readers & present if stage in stages.names else set()), stage


def test_only_an_earlier_search_that_would_be_used_decides_the_draws(compiled):
    stages, spec = compiled
    for step, task, _ in tasks(spec):
        if step == "stabilise_weights":
            assert ("tuned" in task["inputs"]["parameters"]) == stages.tune_model


def test_every_input_is_declared_and_comes_from_somewhere(compiled):
    """What is left out is optional.

    What is given comes from a task of the same graph, or from outside of it.
    """
    _, spec = compiled
    for outer, inner in dags(spec):
        for name, task in inner.items():
            declared = spec["components"][task["componentRef"]["name"]].get("inputDefinitions", {})
            for kind in ("parameters", "artifacts"):
                given = task.get("inputs", {}).get(kind, {})
                required = {
                    key for key, one in declared.get(kind, {}).items() if not one.get("isOptional")
                }
                item = {task.get("parameterIterator", {}).get("itemInput")}
                assert required - item <= set(given) <= set(declared.get(kind, {})), name
                for source in given.values():
                    _check_source(source, kind, outer, inner, task)


def _check_source(source, kind, outer, inner, task):
    one = kind.removesuffix("s")
    if (key := source.get(f"componentInput{one.title()}")) is not None:
        assert key in outer[kind]
    elif (made := source.get(f"taskOutput{one.title()}")) is not None:
        assert made["producerTask"] in inner and made["producerTask"] in task["dependentTasks"]
    else:
        assert "runtimeValue" in source


def test_every_if_reads_an_output_that_kfp_local_finds(compiled):
    """Of an If without an Else it finds the value only in an output of its graph named `Output`."""
    _, spec = compiled
    conditions = {
        task["triggerPolicy"]["condition"]
        for _, inner in dags(spec)
        for task in inner.values()
        if "condition" in task.get("triggerPolicy", {})
    }
    channel = "inputs.parameter_values['pipelinechannel--%s-Output'] == '%s'"
    assert conditions == {
        channel % ("select-spans", "train"),
        channel % ("validate-data", "accepted"),
        channel % ("decide-promotion", "promote"),
    }


def test_the_end_comes_after_all_other_steps_however_they_ended_and_is_given_nothing_of_them(
    compiled,
):
    _, spec = compiled
    root = spec["root"]["dag"]["tasks"]
    assert set(root) == {"exit-handler-1", "conclude-run"}
    exit_task = root["conclude-run"]
    assert exit_task["dependentTasks"] == ["exit-handler-1"]
    assert exit_task["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert exit_task["inputs"] == {
        "parameters": {"project": {"componentInputParameter": "project"}}
    }


def test_loops_have_no_name_and_go_over_dictionaries(compiled):
    """A named loop's outputs cannot be collected by older backends, and items of an untyped list count as text."""
    _, spec = compiled
    loops = [
        (name, task)
        for _, inner in dags(spec)
        for name, task in inner.items()
        if "parameterIterator" in task
    ]
    assert len(loops) == 2
    for name, task in loops:
        assert name.rstrip("0123456789") == "for-loop-" and task["taskInfo"]["name"] == name
        item = task["parameterIterator"]["itemInput"]
        component = spec["components"][task["componentRef"]["name"]]
        assert component["inputDefinitions"]["parameters"][item]["parameterType"] == "STRUCT"


def test_kubeflow_leaves_out_no_task(compiled):
    """Each leaves for the end of the run what it made, or found in the root."""
    _, spec = compiled
    assert not [step for step, task, _ in tasks(spec) if task.get("cachingOptions")]


def test_no_parameter_names_the_run(compiled):
    """Those of a schedule are the same in each of its runs."""
    _, spec = compiled
    declared = spec["root"]["inputDefinitions"]["parameters"]
    assert set(declared) == {"project", "retrain", "tune", "attempt", "trigger"}
    text = json.dumps([task.get("inputs", {}) for _, task, _ in tasks(spec)])
    assert "pipeline_job" not in text


def test_what_the_settings_decide_is_kept_by_a_digest_of_them(compiled):
    """By that of what it reads itself.

    Nothing older is served, and nothing is made again for what it does not read.
    """
    stages, spec = compiled
    digests = {
        step: task["inputs"]["parameters"]["digest"]["componentInputParameter"].rpartition("-")[2]
        for step, task, _ in tasks(spec)
        if "digest" in task.get("inputs", {}).get("parameters", {})
    }
    absent = set(OPTIONAL_STEPS) - set(stages.names)
    kept = set(STEP_INPUTS) - absent - set(PREPARATION)
    assert digests == {step: f"{step}_digest" for step in kept}


def test_the_digests_are_handed_out_in_the_order_of_the_steps():
    from components.select_spans.component import select_spans

    outputs = list(select_spans.component_spec.outputs)
    digests = [f"{step}_digest" for step in STEP_INPUTS if step not in PREPARATION]
    assert [name for name in outputs if name.endswith("_digest")] == digests


def test_a_change_that_only_the_gate_reads_trains_nothing(compiled):
    """What runs again: the steps whose key holds the setting, and all that read what those make."""
    _, spec = compiled
    assert readers_of("gate.margin") == ["decide_promotion"]
    again = {"decide_promotion"}
    for _ in range(len(ALWAYS)):
        again |= {step for step, made_by in sources(spec).items() if made_by & again}
    assert again == {
        "decide_promotion",
        "register_model",
        "validate_serving",
        "push_model",
    }


def sources(spec):
    """Each step, and the steps whose outputs it reads.

    What comes from outside of a graph is named by its maker.
    """
    read = {}
    for step, task, _ in tasks(spec):
        given = [
            *task.get("inputs", {}).get("artifacts", {}).values(),
            *task["inputs"].get("parameters", {}).values(),
        ]
        keys = {
            value for one in given for key, value in one.items() if key.startswith("componentInput")
        }
        made = {
            one[key]["producerTask"] for one in given for key in one if key.startswith("taskOutput")
        }
        names = {name.replace("-", "_") for name in keys | made}
        steps = ALWAYS | set(OPTIONAL_STEPS)
        read.setdefault(step, set()).update(
            maker
            for maker in steps
            for name in names
            if name == maker or f"_{maker}_" in f"_{name}_"
        )
        read[step] = {maker for maker in read[step] if maker != "select_spans"} - {step}
    return read
