"""The step on real trained models of every kind."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from components.probe_model.step import probe_model
from perennial.errors import IntegrityError, ProjectError
from schemas.project import CovariateSettings, EvaluateSettings, ExplainSettings
from schemas.records import Evaluation, Probing
from tests.components.probe_model.jobs import (
    call_wrapper,
    compare_columns,
    probe_kind,
    probe_without_halves,
)
from tests.forked import forked
from tests.kinds import KINDS

COSTS = {"bmi": 1.0, "ltg": 20.0, "pressure": 2.0, "smell": 3.0}
SETTINGS = EvaluateSettings(
    covariates=CovariateSettings(features=["sex", "bmi", "colour"]),
    explain=ExplainSettings(examples=60, single=4),
)


@pytest.fixture(scope="module")
def found(kinds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed")
    return {
        kind: forked(probe_kind, made, folder / kind, SETTINGS, COSTS)
        for kind, made in kinds.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_columns_and_halves_give_what_serialised_examples_give(kinds, kind):
    answers = forked(compare_columns, kinds[kind])
    np.testing.assert_allclose(answers["columns"], answers["examples"], atol=1e-5)
    np.testing.assert_allclose(answers["halves"], answers["examples"], atol=1e-5)
    assert (answers["pressure"] == 90).any()  # the default of those that were not taken
    assert answers["latent"].shape == (len(answers["columns"]), 8)


@pytest.mark.parametrize("kind", KINDS)
def test_record_is_of_the_candidate_and_the_gates_metric(kinds, found, kind):
    probed, judged = found[kind], Evaluation.read(kinds[kind].evaluation)
    assert (probed.digest, probed.metric, probed.examples) == (
        judged.digest,
        KINDS[kind]["metric"],
        60,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_unread_feature_is_needed_by_nobody_and_the_best_one_is(found, kind):
    rows = {row.feature: row for row in found[kind].importances}
    assert set(rows) == {"sex", "age", "bmi", "ltg", "pressure"}
    assert (rows["sex"].loss, rows["sex"].low, rows["sex"].high) == (
        0,
        0,
        0,
    )  # `preprocessing_fn` drops it
    assert {"ltg", "bmi"} & {row.feature for row in found[kind].importances[:2]}
    assert all(row.low <= row.loss <= row.high for row in rows.values())
    assert {name: row.cost for name, row in rows.items()} == {"sex": None, "age": None} | {
        name: COSTS[name] for name in ("bmi", "ltg", "pressure")
    }


def test_importances_of_a_metric_that_is_not_defined_name_the_cause(kinds, tmp_path):
    one = SETTINGS.model_copy(
        update={"covariates": CovariateSettings(), "explain": ExplainSettings(examples=1, single=0)}
    )
    probed = forked(probe_kind, kinds["binary"], tmp_path / "probed", one, {})
    assert (probed.importances, probed.drops) == ([], [])
    (why,) = (text for text in probed.not_probed if text.startswith("permutation importance"))
    cause = "AUC is not defined: the explained examples hold one class only ("
    assert why.startswith(f"permutation importance: {cause}")


@pytest.mark.parametrize("kind", KINDS)
def test_cheapest_contributors_are_dropped_first(found, kind):
    probed = found[kind]
    worth = {row.feature: row.loss / row.cost for row in probed.importances if row.cost}
    assert probed.drops[-1].features == sorted(worth, key=worth.get)
    assert [len(drop.features) for drop in probed.drops] == [1, 2, 3]
    assert probed.drops[-1].saved == 23.0
    assert "importance of `smell`, which costs 3: the model does not read it" in probed.not_probed


@pytest.mark.parametrize("kind", KINDS)
def test_suspects_that_the_model_reads_ignores_or_never_saw(found, kind):
    probes = {(probe.feature, probe.probe): probe for probe in found[kind].covariates}
    told = {suspect.name: suspect for suspect in found[kind].suspects}
    assert set(probes) == {("bmi", probe) for probe in ("permute", "invert", "latent")} | {
        ("sex", "latent")  # `preprocessing_fn` drops it
    }
    assert {name: suspect.is_read for name, suspect in told.items()} == {
        "bmi": True,
        "sex": False,
        "colour": False,
    }
    assert [name for name in told if told[name].not_compared] == ["colour"]
    assert probes["bmi", "permute"].flagged or probes["bmi", "invert"].flagged
    assert not probes["bmi", "latent"].flagged
    unit = "mean squared error" if kind == "regression" else "log loss"
    assert probes["bmi", "invert"].unit == unit
    assert any(
        text.startswith("suspect feature `colour`: no test example has it")
        for text in found[kind].not_probed
    )


@pytest.mark.parametrize("kind", KINDS)
def test_attributions_name_the_transformed_feature_element_by_element(found, kind):
    (row,) = found[kind].attributions
    assert (row.feature, row.shape, len(row.elements)) == ("numbers", [4], 4)
    assert row.mean > 0 and all(element >= 0 for element in row.elements)


@pytest.mark.parametrize("kind", KINDS)
def test_explained_examples_are_the_worst_mistakes_and_add_up(kinds, found, kind):
    judged = Evaluation.read(kinds[kind].evaluation)
    worst = [(mistake.span, mistake.key) for mistake in judged.mistakes[:4]]
    explained = found[kind].explained
    assert [(row.span, row.key) for row in explained] == worst
    table = kinds[kind].table(judged.tasks[0].name).set_index("key")
    for row in explained:
        said = table.loc[row.key, judged.candidate]
        assert row.output == pytest.approx(float(np.max(said)), rel=1e-4)
        assert row.label == table.loc[row.key, "label"]
        assert row.predicted == pytest.approx(
            float(np.argmax(said)) if np.ndim(said) else said, rel=1e-4
        )
        sums = sum(row.attributions.values()) + row.gap
        assert sums == pytest.approx(row.output - row.baseline, rel=1e-4, abs=1e-5)
        assert abs(row.gap) < 0.02 * max(1.0, abs(row.output))


def test_same_inputs_give_the_same_record(kinds, found, tmp_path):
    again = forked(probe_kind, kinds["binary"], tmp_path, SETTINGS, COSTS)
    assert again == found["binary"] == Probing.read(tmp_path)


def test_nothing_is_explained_where_no_example_is_wanted(kinds, tmp_path):
    none = EvaluateSettings(explain=ExplainSettings(examples=0))
    probed = forked(probe_kind, kinds["binary"], tmp_path, none, {})
    assert (
        probed.importances
        == probed.drops
        == probed.attributions
        == probed.explained
        == probed.covariates
        == []
    )
    assert probed.leaks == [] and probed.not_probed == [
        "explanations: evaluate.explain.examples is 0",
        "features that alone give the label away: evaluate.explain.examples is 0",
    ]


def test_model_without_halves_has_importances_and_probes_but_no_gradients(kinds, tmp_path):
    probed = forked(probe_without_halves, kinds["binary"], tmp_path)
    assert probed.attributions == probed.explained == []
    assert any(
        text.startswith("integrated gradients: ") and "run_fn" in text for text in probed.not_probed
    )
    assert len(probed.importances) == 5 and [suspect.name for suspect in probed.suspects] == ["sex"]
    assert all(math.isfinite(row.loss) for row in probed.importances)


def test_other_model_than_the_evaluated_one_is_refused(kinds, tmp_path):
    kind = kinds["binary"]
    shutil.copytree(kind.candidate, tmp_path / "model")
    with (tmp_path / "model" / "saved_model" / "saved_model.pb").open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(IntegrityError, match="SHA-256"):
        probe_model(
            kind.project, kind.window, kind.evaluation, tmp_path / "model", tmp_path / "probing"
        )
    assert not (tmp_path / "probing").exists()


def test_other_window_than_the_evaluated_one_is_refused(kinds, chain, tmp_path):
    kind = kinds["binary"]
    with pytest.raises(IntegrityError, match=r"must hold the .* test examples of the window"):
        forked(probe_model, kind.project, chain.window, kind.evaluation, kind.candidate, tmp_path)


@pytest.fixture(scope="module")
def digits(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    folders = [chain.window, chain.evaluation, chain.candidate]
    forked(call_wrapper, chain.project, chain.project.digest_of("probe_model"), folders, folder)
    return Probing.read(folder)


def test_images_through_the_wrapper(chain, digits):
    assert digits.digest == Evaluation.read(chain.evaluation).digest
    (image,) = digits.importances
    assert (
        image.feature == "image" and image.low > 0.3
    )  # of the accuracy: all of it comes from the image
    (pixels,) = digits.attributions
    assert pixels.shape == [64] and len(pixels.elements) == 64
    # The corners of a digit are empty; what tells digits apart lies in the middle.
    grid = np.reshape(pixels.elements, (8, 8))
    assert grid[2:6, 2:6].mean() > 3 * grid[:, [0, 7]].mean()
    assert len(digits.explained) == 5 and digits.not_probed == []


def test_wrapper_refuses_a_project_that_changed(chain, tmp_path):
    with pytest.raises(ProjectError, match="what probe_model reads of the project"):
        forked(call_wrapper, chain.project, "another", [chain.evaluation] * 3, tmp_path)
