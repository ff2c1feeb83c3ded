"""Registration: one version for the same bytes however often it is tried, with its whole lineage."""

from __future__ import annotations

import shutil

import pytest
from mlflow import MlflowClient

from components.evaluate_model.step import read_evaluation
from components.register_model.step import describe_lineage, register_model
from components.train_model.step import SAVED_MODEL
from perennial.digests import digest_folder
from perennial.errors import IntegrityError
from perennial.ledger import Ledger
from perennial.registry import Registry
from schemas.records import Decision, DecisionMade, Span

PROMOTE = Decision(promote=True, criteria=[], reasons=["it is better"], not_compared=[])


@pytest.fixture
def arguments(chain, project):
    return project, chain.selection, read_evaluation(chain.evaluation), PROMOTE, chain.candidate


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
        "spans": "2026-01-01@1, 2026-01-02@1",
        "fingerprints": ", ".join(span.fingerprint for span in selection.window),
        "schema_digest": project.schema_digest(),
        "project_digest": project.project_digest(),
        "git_commit": selection.git_commit or "none",
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
