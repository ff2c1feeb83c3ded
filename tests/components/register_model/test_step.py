"""Registration.

One version for the same bytes however often it is tried, with its whole lineage.
"""

from __future__ import annotations

import json
import shutil

import pytest
from mlflow import MlflowClient

from components.register_model.step import (
    describe_curves,
    describe_lineage,
    describe_metrics,
    describe_parameters,
    register_model,
)
from perennial.errors import IntegrityError
from perennial.ledger.events import Ledger
from perennial.registry.versions import Registry
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import (
    Decision,
    DecisionMade,
    Evaluation,
    Hyperparameters,
    Instance,
    Probing,
    Span,
    Training,
)
from tests.kinds import copy_kind_project

PROMOTE = Decision(promote=True, criteria=[], reasons=["it is better"], not_compared=[])


@pytest.fixture
def arguments(chain, project):
    return project, chain.selection, Evaluation.read(chain.evaluation), PROMOTE, chain.candidate


def _decisions(project):
    return [(event.run, event.body) for event in Ledger(project.ledger_url).events("decision")]


def test_version_holds_the_evaluated_bytes_and_the_decision_is_recorded(arguments):
    project, selection, evaluation, *_ = arguments
    version = register_model(*arguments)
    assert (version.version, version.digest) == ("1", evaluation.digest)
    assert digest_folder(Registry(project).fetch(version)) == evaluation.digest
    made = DecisionMade(decision=PROMOTE, version="1", digest=evaluation.digest)
    assert _decisions(project) == [(selection.run, made)]


def test_lineage_tags(arguments):
    project, selection, evaluation, *_ = arguments
    lineage = Registry(project).lineage(register_model(*arguments).version)
    assert lineage == {
        "run": selection.run,
        "attempt": "0",
        "spans": "2026-01-01@1, 2026-01-02@1",
        "fingerprints": ", ".join(span.fingerprint for span in selection.window),
        "schema_digest": project.schema_digest(),
        "project_digest": project.project_digest(),
        "git_commit": selection.git_commit or "none",
        "package": selection.package or "none",
        "champion": "none",
        "decision": "promote",
        "digest": evaluation.digest,
    }


def test_repeating_it_changes_nothing(arguments):
    project = arguments[0]
    first = register_model(*arguments)
    assert register_model(*arguments) == first
    assert Registry(project).versions() == [first] and len(_decisions(project)) == 1


def test_cut_short_between_the_files_and_the_version(arguments, monkeypatch):
    project, original, cut = arguments[0], MlflowClient.create_model_version, []

    def create(self, *args, **kwargs):
        if not cut:
            cut.append(True)
            raise ConnectionError("cut short")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", create)
    with pytest.raises(ConnectionError):
        register_model(*arguments)
    assert Registry(project).versions() == [] and _decisions(project) == []
    version = register_model(*arguments)
    assert Registry(project).versions() == [version] and len(_decisions(project)) == 1
    assert digest_folder(Registry(project).fetch(version)) == version.digest


def test_model_that_was_tampered_with_is_refused(arguments, tmp_path):
    project, selection, evaluation, decision, model = arguments
    shutil.copytree(model, tmp_path / "model")
    path = next((tmp_path / "model" / SAVED_MODEL).rglob("variables.data*"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError, match=evaluation.digest):
        register_model(project, selection, evaluation, decision, tmp_path / "model")
    assert Registry(project).versions() == [] and _decisions(project) == []


def test_a_window_of_many_spans_fits_into_a_tag(chain):
    spans = [Span(name=f"span-{i}", version=1, uri="", fingerprint=f"{i:064d}") for i in range(500)]
    long, longer = (describe_lineage(chain.selection, w, PROMOTE) for w in (spans[:499], spans))
    assert all(len(value) <= 5000 for value in longer.values())
    assert long["fingerprints"] != longer["fingerprints"]


def test_metrics_have_the_names_of_the_task(chain):
    assert describe_metrics(Evaluation.read(chain.evaluation)).keys() == {
        "test_accuracy",
        "test_log_loss",
        "test_examples",
    }


def test_every_instance_is_an_mlflow_run_with_its_own_metrics(arguments):
    project, selection, evaluation, *_ = arguments
    version = register_model(*arguments)
    client = Registry(project)._client
    experiment = client.get_experiment_by_name("digits")
    runs = {
        run.data.tags["perennial.instance"]: run
        for run in client.search_runs([experiment.experiment_id])
    }
    assert (
        runs.keys() == {training.instance.name for training in evaluation.trainings}
        and len(runs) == 2
    )
    for training in evaluation.trainings:
        name = training.instance.name
        run, candidate = runs[name], name == evaluation.candidate
        measured = evaluation.overall("candidate" if candidate else name)
        assert run.info.status == "FINISHED" and run.data.tags["perennial.run"] == selection.run
        assert run.data.tags["perennial.judged"] == ("true" if candidate else "false")
        assert (run.info.run_id == version.mlflow_run) == candidate
        assert run.data.metrics["test_accuracy"] == pytest.approx(measured.values["accuracy"])
        assert run.data.params["seed"] == str(training.instance.seed)
        assert len(client.get_metric_history(run.info.run_id, "eval_loss")) == len(training.epochs)
    assert runs[evaluation.candidate].data.params["features"] == "image"


def test_what_was_judged_is_kept_with_the_version(arguments):
    project, _, evaluation, *_ = arguments
    probing = Probing(
        digest=evaluation.digest,
        metric="accuracy",
        examples=9,
        not_probed=["nothing was asked for"],
    )
    version, registry = register_model(*arguments, probing), Registry(project)
    for name, record in (("evaluation", evaluation), ("decision", PROMOTE), ("probing", probing)):
        text = registry.document(version, f"{name}.json")
        assert json.loads(text) == json.loads(record.model_dump_json())


def test_what_was_not_probed_has_no_document(arguments):
    version = register_model(*arguments)
    assert Registry(arguments[0]).document(version, "probing.json") is None


def test_a_kept_candidate_is_the_challenger(arguments):
    project, selection, evaluation, _, model = arguments
    kept = PROMOTE.model_copy(update={"promote": False})
    version = register_model(project, selection, evaluation, kept, model)
    assert Registry(project).aliases() == {"challenger": version.version}
    assert Registry(project).lineage(version.version)["decision"] == "keep"


def test_a_pickle_in_the_model_is_refused_before_anything_is_recorded(arguments, tmp_path):
    project, selection, evaluation, decision, model = arguments
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / SAVED_MODEL / "encoder.pkl").write_bytes(b"")
    digest = digest_folder(tmp_path / "model" / SAVED_MODEL)
    swapped = evaluation.model_copy(update={"digest": digest})
    with pytest.raises(IntegrityError, match=r"encoder\.pkl: a pickle"):
        register_model(project, selection, swapped, decision, tmp_path / "model")
    assert Ledger(project.ledger_url).events() == [] and Registry(project).versions() == []


def test_metrics_of_several_tasks_have_theirs(kinds):
    assert describe_metrics(Evaluation.read(kinds["several"].evaluation)).keys() == {
        "test_severe_accuracy",
        "test_severe_log_loss",
        "test_severe_auc",
        "test_progression_mean_absolute_error",
        "test_progression_mean_squared_error",
        "test_examples",
    }


def test_curves_name_the_metric(kinds):
    training = Training.read(kinds["regression"].models[0])
    curves = describe_curves(training)
    assert curves["eval_mean_absolute_error"] == [epoch.eval_metric for epoch in training.epochs]
    assert set(curves) == {"train_loss", "eval_loss", "eval_mean_absolute_error"}


def test_parameters_say_who_chose_them_and_what_it_started_from(chain):
    tuned = Hyperparameters(
        learning_rate=0.1, batch_size=8, model={"units": 16, "wide=deep": True}, source="tuner"
    )
    instance = Instance(name="patched-1", seed=3, start="patched")
    training = Training.read(chain.model("instance-1")).model_copy(
        update={"hyperparameters": tuned, "instance": instance}
    )
    found = describe_parameters(training)
    assert (found["model.units"], found["model.wide_deep"]) == (16, True)
    assert (found["start"], found["chosen_by"], found["instance"]) == (
        "patched",
        "tuner",
        "patched-1",
    )


def test_version_of_several_tasks_is_registered(kinds, tmp_path):
    kind = kinds["several"]
    project = copy_kind_project(kind, tmp_path / "project")
    evaluation = Evaluation.read(kind.evaluation)
    version = register_model(project, kind.selection, evaluation, PROMOTE, kind.candidate)
    assert (
        version.digest == evaluation.digest
        and digest_folder(Registry(project).fetch(version)) == version.digest
    )
