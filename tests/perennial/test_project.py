"""A mistake in a project gives one message.

Where, what was expected, what was received, what to do.
"""

from __future__ import annotations

import pytest

from perennial.errors import ProjectError
from perennial.project import load_project
from perennial.runner.project_checks import check_project
from perennial.settings import parse_settings
from tests.perennial.folders import DIGITS, make_project

LEAST = "name: digits\nlabel: label\ndata: {spans: 'data/{SPAN}.parquet', key: id}\n"


def _message(text: str) -> str:
    with pytest.raises(ProjectError) as refused:
        parse_settings(text)
    assert refused.value.exit_code == 2
    return str(refused.value)


def test_least_settings_and_their_defaults():
    settings = parse_settings(LEAST)
    assert (settings.data.window, settings.gate.metric, settings.train.strategy) == (
        14,
        "accuracy",
        "one_device",
    )


@pytest.mark.parametrize(
    "more, where, expected, received, remedy",
    [
        ("gait: {}", "project.yaml: gait", "known keys", "Received: gait", "Did you mean `gate`?"),
        (
            "train: {batchsize: 3}",
            "train.batchsize",
            "known keys",
            "Received: batchsize",
            "Did you mean `batch_size`?",
        ),
        (
            "gate: {confidense: 1}",
            "gate.confidense",
            "known keys",
            "confidense",
            "Did you mean `confidence`?",
        ),
        ("zzz: 1", "project.yaml: zzz", "known keys", "Received: zzz", "Remove it."),
        (
            "train: {batch_size: 0}",
            "train.batch_size",
            "must be greater than or equal to 1",
            "Received: 0",
            "docs/",
        ),
        (
            "train: {batch_size: many}",
            "train.batch_size",
            "must be a valid integer",
            "'many'",
            "docs/",
        ),
        ("train: {batch_size: 2.5}", "train.batch_size", "must be a valid integer", "2.5", "docs/"),
        (
            "train: {learning_rate: 0}",
            "train.learning_rate",
            "must be greater than 0",
            "Received: 0",
            "docs/",
        ),
        (
            "train: {strategy: two}",
            "train.strategy",
            "'one_device', 'mirrored', 'multi_worker' or 'tpu'",
            "'two'",
            "docs/",
        ),
        ("train: 3", "project.yaml: train", "must be a valid dictionary", "Received: 3", "docs/"),
        ("gate: {confidence: 1}", "gate.confidence", "must be less than 1", "Received: 1", "docs/"),
        ("gate: {mode: worse}", "gate.mode", "'better' or 'not_worse'", "'worse'", "docs/"),
        ("gate: {metric: f1}", "gate.metric", "'accuracy', 'log_loss', 'auc'", "'f1'", "docs/"),
        (
            "gate: {mode: better, margin: 0.1}",
            "project.yaml: gate",
            "mode: not_worse",
            "margin 0.1",
            "docs/",
        ),
        (
            "gate: {margin: -0.1, mode: not_worse}",
            "gate.margin",
            "greater than or equal to 0",
            "-0.1",
            "docs/",
        ),
        ("serving: {port: 99999}", "serving.port", "less than or equal to 65535", "99999", "docs/"),
        (
            "serving: {poll_seconds: 60}",
            "serving.poll_seconds",
            "less than or equal to 2",
            "60",
            "docs/",
        ),
        (
            "evaluate: {slices: label}",
            "evaluate.slices",
            "must be a valid list",
            "'label'",
            "docs/",
        ),
        (
            "beam: {options: [1]}",
            "beam.options.0",
            "must be a valid string",
            "Received: 1",
            "docs/",
        ),
        ("state: [a]", "project.yaml: state", "must be a valid string", "['a']", "docs/"),
    ],
)
def test_wrong_settings(more, where, expected, received, remedy):
    message = _message(LEAST + more)
    assert where in message and expected in message and received in message and remedy in message


@pytest.mark.parametrize(
    "splits, total",
    [("{train: 0.6, eval: 0.3, test: 0.2}", "1.1"), ("{train: 0.5, eval: 0.2, test: 0.2}", "0.9")],
)
def test_splits_that_do_not_sum_to_one(splits, total):
    message = _message(LEAST.replace("key: id}", f"key: id, splits: {splits}}}"))
    assert (
        "data.splits" in message
        and "train + eval + test must be 1" in message
        and f"Received: {total}" in message
    )


@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_no_split_is_empty(split):
    shares = {"train": 0.5, "eval": 0.5, "test": 0.5} | {split: 0}
    assert f"data.splits.{split}" in _message(
        LEAST.replace("key: id}", f"key: id, splits: {shares}}}")
    )


@pytest.mark.parametrize("name", ["Digits", "1digits", "my digits", "a/b", "", "x" * 64])
def test_names_that_no_address_takes(name):
    assert "project.yaml: name" in _message(LEAST.replace("name: digits", f"name: '{name}'"))


@pytest.mark.parametrize("missing", ["name", "label", "data"])
def test_missing_key(missing):
    text = "\n".join(line for line in LEAST.splitlines() if not line.startswith(missing))
    message = _message(text)
    assert f"project.yaml: {missing} must be set" in message and "Received: nothing" in message


def test_missing_inner_key():
    assert "project.yaml: data.key must be set" in _message("name: a\nlabel: b\ndata: {spans: x}")


def test_every_mistake_is_named_at_once():
    message = _message(LEAST + "train: {epochs: 0, seed: x}\ngait: 1")
    assert all(where in message for where in ("train.epochs", "train.seed", "gait"))


@pytest.mark.parametrize(
    "text, says", [("name: [", "line 1"), ("name: a\n\tlabel: b", "line 2"), ("a: b: c", "line 1")]
)
def test_what_is_not_yaml_names_the_line(text, says):
    message = _message(text)
    assert message.startswith("project.yaml must be YAML") and says in message


@pytest.mark.parametrize("text", ["", "- a\n- b", "digits", "3"])
def test_yaml_that_holds_no_settings(text):
    assert "must hold settings" in _message(text)


def test_key_that_is_no_text():
    assert "1" in _message(LEAST + "1: x")


def test_folder_without_settings(tmp_path):
    with pytest.raises(ProjectError, match=r"no such file.*perennial init"):
        load_project(tmp_path)
    with pytest.raises(ProjectError, match="no such folder"):
        load_project(tmp_path / "nowhere")


def test_settings_that_are_not_text(tmp_path):
    (tmp_path / "project.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProjectError, match=r"project\.yaml must be a text file"):
        load_project(tmp_path)


def test_the_example_is_right():
    check_project(load_project(DIGITS))


def _check_with(tmp_path, name: str, text: str | None) -> str:
    """The message about the digits project when one of its files holds `text`, or is gone."""
    project = make_project(tmp_path / "digits")
    (project.folder / name).unlink() if text is None else (project.folder / name).write_text(text)
    with pytest.raises(ProjectError) as refused:
        check_project(load_project(project.folder))
    return str(refused.value)


@pytest.mark.parametrize("name", ["model.py", "schema.pbtxt", "expectations.json"])
def test_missing_file(tmp_path, name):
    message = _check_with(tmp_path, name, None)
    assert name in message and "no such file" in message


@pytest.mark.parametrize("name", ["model.py", "schema.pbtxt", "expectations.json"])
def test_file_that_is_not_text(tmp_path, name):
    project = make_project(tmp_path / "digits")
    (project.folder / name).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ProjectError, match=f"{name} must be a text file"):
        check_project(project)


def test_syntax_error_names_the_line(tmp_path):
    message = _check_with(
        tmp_path, "model.py", "import keras\n\ndef preprocessing_fn(inputs:\n    return {}\n"
    )
    assert (
        message.startswith("model.py:3 must be valid Python")
        and "def preprocessing_fn(inputs:" in message
    )


@pytest.mark.parametrize("gone", ["preprocessing_fn", "build_model"])
def test_missing_function(tmp_path, gone):
    text = (DIGITS / "model.py").read_text().replace(f"def {gone}", "def something_else")
    message = _check_with(tmp_path, "model.py", text)
    assert f"model.py must define `{gone}`" in message and "something_else" in message


def test_functions_may_be_imported_or_assigned(tmp_path):
    project = make_project(tmp_path / "digits")
    (project.folder / "model.py").write_text(
        "from ours import preprocessing_fn\nbuild_model = lambda graph: None\n"
    )
    check_project(project)


@pytest.mark.parametrize(
    "changes, where, remedy",
    [
        ({"label": "lable"}, "project.yaml: label", "Did you mean `label`?"),
        ({"data": {"key": "idd"}}, "project.yaml: data.key", "Did you mean `id`?"),
        (
            {"evaluate": {"slices": ["label", "dat"]}},
            "project.yaml: evaluate.slices[1]",
            "Did you mean `date`?",
        ),
        ({"label": "species"}, "project.yaml: label", "Name one of them."),
        (
            {"evaluate": {"crosses": [["label", "dat"]]}},
            "project.yaml: evaluate.crosses[0][1]",
            "mean `date`?",
        ),
        ({"evaluate": {"group": "dat"}}, "project.yaml: evaluate.group", "Did you mean `date`?"),
        (
            {"evaluate": {"fairness": {"features": ["dat"]}}},
            "evaluate.fairness.features[0]",
            "Did you mean `date`?",
        ),
        (
            {"evaluate": {"covariates": {"features": ["dat"]}}},
            "evaluate.covariates.features[0]",
            "mean `date`?",
        ),
        (
            {"features": {"imag": {"cost": 1}}},
            "project.yaml: features.imag",
            "Did you mean `image`?",
        ),
        (
            {"serving": {"log": {"dropped": ["imag"]}}},
            "project.yaml: serving.log.dropped",
            "Did you mean `image`?",
        ),
    ],
)
def test_feature_that_is_not_in_the_schema(tmp_path, changes, where, remedy):
    with pytest.raises(ProjectError) as refused:
        check_project(make_project(tmp_path / "digits", **changes))
    message = str(refused.value)
    assert where in message and "id, date, image, label" in message and remedy in message


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"gate": {"floors": {"auc": 0.7}}},
            r"gate.floors.auc must be a metric of the multi_class task",
        ),
        (
            {"gate": {"distribution": "serving"}},
            r"gate.distribution must be `test` while nothing is re-weighted",
        ),
        ({"evaluate": {"serving": "label_shift"}}, r"evaluate.serving must have a serving log"),
        (
            {
                "label": "image",
                "data": {"serving_log": "served/*.parquet"},
                "evaluate": {"serving": "label_shift"},
                "model": {"tasks": [{"kind": "regression", "label": "x"}]},
                "gate": {"metric": "mean_absolute_error", "floors": {}},
            },
            r"evaluate.serving must fit the task `prediction`",
        ),
    ],
)
def test_a_judgement_that_could_not_be_made_is_refused_at_once(tmp_path, changes, message):
    with pytest.raises(ProjectError, match=message):
        check_project(make_project(tmp_path / "digits", **changes))


LABEL = "cloud.google.com/gke-tpu-"
V5E, V5P = "tpu-v5-lite-podslice", "tpu-v5p-slice"


def _on_tpu(folder, topology, chips, kind=V5E, strategy="tpu"):
    selector = {f"{LABEL}topology": topology, f"{LABEL}accelerator": kind}
    asked = {"accelerator": "google.com/tpu", "accelerators": chips, "node_selector": selector}
    return make_project(folder, train={"strategy": strategy}, kubeflow={"training": asked})


@pytest.mark.parametrize(
    "topology, kind, asked, chips",
    [
        ("4x4", V5E, 4, 16),
        ("4x4", V5E, 16, 16),
        ("2x4", V5E, 4, 8),
        ("2x2x2", V5P, 8, 8),
        ("2x2x2", V5P, 4, 8),
        ("0x8", V5E, 8, 0),
        ("2by4", V5E, 8, 0),
    ],
)
def test_a_tpu_of_several_hosts_or_with_other_chips_is_refused(
    tmp_path, topology, kind, asked, chips
):
    with pytest.raises(ProjectError) as refused:
        check_project(_on_tpu(tmp_path / "digits", topology, asked, kind))
    message = str(refused.value)
    assert "kubeflow.training.node_selector: cloud.google.com/gke-tpu-topology" in message
    assert f"of at most {8 if kind == V5E else 4} chips of {kind}" in message
    assert f"(accelerators: {asked})" in message and f"{topology}, {chips} chips" in message


@pytest.mark.parametrize(
    "topology, kind, chips",
    [("2x4", V5E, 8), ("2x2", V5E, 4), ("1x1", V5E, 1), ("2x2x1", V5P, 4), ("2x4", "new", 8)],
)
def test_a_tpu_of_one_host_is_taken(tmp_path, topology, kind, chips):
    check_project(_on_tpu(tmp_path / "digits", topology, chips, kind))


@pytest.mark.parametrize(
    "asked",
    [
        {"node_selector": {f"{LABEL}topology": "2x4"}},
        {"node_selector": {f"{LABEL}accelerator": V5E, f"{LABEL}topology": "2x4"}},
        {"accelerator": "google.com/tpu", "node_selector": {f"{LABEL}topology": "2x4"}},
        {"accelerator": "google.com/tpu", "node_selector": {f"{LABEL}accelerator": V5E}},
        {"accelerator": "google.com/tpu"},
        {
            "accelerator": "nvidia.com/gpu",
            "node_selector": {f"{LABEL}accelerator": V5E, f"{LABEL}topology": "2x4"},
        },
    ],
    ids=["topology", "both labels", "no kind", "no topology", "no labels", "a GPU"],
)
def test_a_tpu_that_is_named_in_part_is_refused(tmp_path, asked):
    """A pod would get none, or would wait for a node."""
    project = make_project(
        tmp_path / "digits",
        train={"strategy": "tpu"},
        kubeflow={"training": {"accelerators": 8, **asked}},
    )
    with pytest.raises(ProjectError, match=r"kubeflow.training must name a TPU of GKE by") as error:
        check_project(project)
    assert "accelerator: google.com/tpu, and by cloud.google.com/gke-tpu-" in str(error.value)


def test_the_topology_is_that_of_strategy_tpu_alone(tmp_path):
    check_project(_on_tpu(tmp_path / "digits", "4x4", 4, strategy="multi_worker"))


ROLES = {
    "the label is the key": (
        {"data": {"key": "label"}},
        {},
        "data.key must be another feature than the label",
    ),
    "one span cannot be split by time": (
        {"data": {"window": 1, "splits": {"by": "time"}}},
        {},
        "data.window must be at least 2 where data.splits.by is time",
    ),
    "a floor that no model reaches": (
        {"gate": {"floors": {"accuracy": 90}}},
        {},
        "gate.floors.accuracy must be from 0 to 1. Received: 90",
    ),
    "logits of values": (
        {
            "label": "price",
            "model": {"tasks": [{"kind": "regression", "output": "logits"}]},
            "gate": {"metric": "mean_absolute_error", "floors": {}},
            "evaluate": {"slices": []},
        },
        {'name: "date"': ('name: "date"', 'name: "price" type: FLOAT }\nfeature { name: "date"')},
        "model.tasks[0].output must be auto, as `prediction` is a regression and predicts no "
        "classes. Received: logits. Leave it out",
    ),
    "clients send the label": (
        {},
        {'name: "label"': ('not_in_environment: "SERVING"', "")},
        "label must not be in the environment SERVING",
    ),
    "the label does not land": (
        {},
        {'name: "label"': ('not_in_environment: "SERVING"', 'not_in_environment: "TRAINING"')},
        "label must be a feature that lands, as label of project.yaml names it",
    ),
    "the key is not in use any more": (
        {},
        {'name: "id"': ('name: "id"', 'name: "id"\n  lifecycle_stage: DEPRECATED')},
        "id must be a feature that lands, as data.key of project.yaml names it. Received: it is "
        "not in use any more",
    ),
}


@pytest.mark.parametrize(("changes", "schema", "message"), ROLES.values(), ids=ROLES)
def test_settings_and_schema_that_contradict_each_other_are_refused(
    tmp_path, changes, schema, message
):
    project = make_project(tmp_path / "digits", **changes)
    text = project.schema_path.read_text()
    for mark, (old, new) in schema.items():
        before, _, after = text.partition(mark)
        assert old in mark + after
        text = before + (mark + after).replace(old, new, 1)
    project.schema_path.write_text(text)
    with pytest.raises(ProjectError) as refused:
        check_project(load_project(project.folder))
    assert message in str(refused.value)


def test_label_that_is_no_class_number(tmp_path):
    message = r"schema.pbtxt: date must be INT, as the multi_class task `prediction` reads it. Received: BYTES"
    with pytest.raises(ProjectError, match=message):
        check_project(make_project(tmp_path / "digits", label="date"))


@pytest.mark.parametrize(
    ("kind", "domain", "message"),
    [
        ("binary", "min: -1 max: 1", "takes: 0 and 1. Received: min -1 max 1"),
        ("binary", "max: 2", "takes: 0 and 1. Received: max 2"),
        ("multi_class", "min: 1 max: 3", "count from 0. Received: min 1 max 3"),
        ("multi_class", "min: -1", "count from 0. Received: min -1"),
        ("multi_class", "min: 2 max: 2", "two different labels. Received: min 2 max 2"),
        ("regression", "min: 5 max: 5", "two different labels. Received: min 5 max 5"),
        ("binary", "min: 0 max: 1", None),
        ("binary", "", None),
        ("multi_class", "max: 9", None),
        ("regression", "min: -1 max: 1", None),
    ],
)
def test_labels_of_the_schema_that_the_task_does_not_take(tmp_path, kind, domain, message):
    metric = "mean_absolute_error" if kind == "regression" else "accuracy"
    changes = {
        "model": {"tasks": [{"kind": kind}]},
        "gate": {"metric": metric, "floors": {}},
        "evaluate": {"slices": []},
    }
    project = make_project(tmp_path / "digits", **changes)
    text = project.schema_path.read_text()
    old = 'name: "label" min: 0 max: 9 is_categorical: true'
    assert old in text
    project.schema_path.write_text(text.replace(old, domain))
    project = load_project(project.folder)
    if message is None:
        check_project(project)
        return
    with pytest.raises(ProjectError) as refused:
        check_project(project)
    assert str(refused.value).startswith("schema.pbtxt: label: int_domain must allow what the")
    assert message in str(refused.value) and "model.tasks[0].label" in str(refused.value)


BINARY = {"module": "model.py", "tasks": [{"kind": "binary"}]}
VALUES = {"module": "model.py", "tasks": [{"kind": "regression"}]}
LENGTH = {
    "module": "model.py",
    "tasks": [{"name": "day", "label": "day_xf"}, {"name": "size", "kind": "regression"}],
}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"model": VALUES},
            "gate.metric must be a metric of the regression task `prediction` "
            "(mean_absolute_error, ",
        ),
        (
            {"gate": {"metric": "mean_squared_error"}},
            "the multi_class task `prediction` (accuracy, log_loss)",
        ),
        (
            {"label": "image", "model": BINARY},
            "image must be INT, as the binary task `prediction` reads it",
        ),
        (
            {"label": "date", "model": LENGTH},
            "date must be INT or FLOAT, as the regression task `size` reads it",
        ),
    ],
)
def test_tasks_that_do_not_fit_their_label_or_the_gate(tmp_path, changes, message):
    with pytest.raises(ProjectError) as refused:
        check_project(make_project(tmp_path / "digits", **changes))
    assert message in str(refused.value)


def test_tasks_that_fit(tmp_path):
    gate = {"metric": "mean_absolute_error", "floors": {}}
    project = make_project(tmp_path / "value", label="image", model=VALUES, gate=gate)
    named, clients = 'name: "image"', 'not_in_environment: "SERVING"'
    text = project.schema_path.read_text().replace(named, f"{named} {clients}", 1)
    project.schema_path.write_text(text)
    check_project(project)
    tasks = [{"name": "day", "label": "day_xf"}]
    check_project(make_project(tmp_path / "text", label="date", model={"tasks": tasks}))


def test_a_module_trains_by_run_fn_only_where_it_has_no_build_model(tmp_path):
    project = make_project(tmp_path / "digits")
    assert not project.uses_run_fn
    text = project.module_path.read_text()
    project.module_path.write_text(text + "def run_fn(fn_args): pass\n")
    assert not load_project(project.folder).uses_run_fn
    project.module_path.write_text(text.replace("def build_model", "def run_fn"))
    changed = load_project(project.folder)
    check_project(changed)
    assert changed.uses_run_fn


def test_schema_that_does_not_parse_names_the_line(tmp_path):
    message = _check_with(tmp_path, "schema.pbtxt", 'feature {\n  nam: "id"\n}\n')
    assert message.startswith("schema.pbtxt must be a schema") and "2:3" in message


@pytest.mark.parametrize(
    "text, where, expected",
    [
        ('{"expectations": [', "expectations.json", "must be JSON"),
        ("[]", "expectations.json", "an object with a list `expectations`"),
        ('{"expectations": {}}', "expectations.json", "an object with a list `expectations`"),
        (
            '{"expectations": [{"type": "a", "kwargs": {}}, {"type": "b"}]}',
            "expectations[1]",
            "`type` and an object",
        ),
        ('{"expectations": [3]}', "expectations[0]", "`type` and an object"),
    ],
)
def test_wrong_expectations(tmp_path, text, where, expected):
    message = _check_with(tmp_path, "expectations.json", text)
    assert where in message and expected in message


def test_project_that_changed_while_it_ran(tmp_path):
    project = make_project(tmp_path)
    assert (
        load_project(tmp_path).opened_for("train_model", project.digest_of("train_model")).folder
        == tmp_path
    )
    with pytest.raises(
        ProjectError, match=r"must stay as it was when the run began \(aaaaaaaaaaaa\)"
    ) as raised:
        load_project(tmp_path).opened_for("train_model", "a" * 64)
    assert str(raised.value).startswith(
        "what train_model reads of the project (label, model, train, "
    )


def test_a_misspelt_key_of_an_optional_section_is_named_too():
    text = LEAST.replace(
        "spans: 'data/{SPAN}.parquet'", "table: {ur: sqlite://, table: t, span: day}"
    )
    assert text != LEAST
    with pytest.raises(ProjectError, match="Did you mean `url`"):
        parse_settings(text)


@pytest.mark.parametrize(
    "source, found", [("window: 3", "neither"), ("spans: 'a{SPAN}', table: TABLE", "both")]
)
def test_spans_come_from_files_or_from_a_table(source, found):
    table = "{url: 'sqlite://', table: t, span: day}"
    text = LEAST.replace("spans: 'data/{SPAN}.parquet'", source.replace("TABLE", table))
    with pytest.raises(ProjectError, match=found):
        parse_settings(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [('";"', ";"), ('"\\t"', "\t"), ("'\\t'", "\t"), (r"\t", "\t"), ('"|"', "|"), (";", ";")],
)
def test_a_delimiter_is_one_character(written, read):
    text = LEAST.replace("key: id", f"key: id, delimiter: {written}")
    assert parse_settings(text).data.delimiter == read


@pytest.mark.parametrize("written", ['";;"', '""', "a", '"\\n"', "'\"'", '"é"', "7"])
def test_a_delimiter_that_cannot_stand_between_cells_is_refused(written):
    message = _message(LEAST.replace("key: id", f"key: id, delimiter: {written}"))
    assert message.startswith("project.yaml: data.delimiter must be ")
