"""Evaluation: every test example once, the same for every model.

A champion that cannot be read is never passed.
"""

from __future__ import annotations

import math
import shutil

import numpy as np
import pandas as pd
import pytest

from components.decide_promotion.step import decide_promotion
from components.evaluate_model.step import Outputs, choose_candidate, evaluate_model
from perennial.data.examples import split_of
from perennial.errors import IntegrityError, ProjectError
from perennial.evaluation.comparison import Pair
from perennial.storage.digests import digest_folder
from perennial.tasks import Task
from perennial.training.artifacts import SAVED_MODEL
from schemas.project import GateSettings
from schemas.records import Champion, Evaluation, Training
from tests.chain import with_settings
from tests.forked import forked

DIGIT = Task("digit", "multi_class", "label")


@pytest.fixture(scope="module")
def found(chain):
    return Evaluation.read(chain.evaluation)


@pytest.fixture(scope="module")
def table(chain):
    return pd.read_parquet(chain.evaluation / "predictions.parquet")


def test_table_holds_every_test_example_once(chain, table):
    shares, expected = chain.project.settings.data.splits, []
    for span in chain.selection.window:
        keys = pd.read_parquet(span.uri)["id"]
        expected += [(span.name, key) for key in keys if split_of(key, shares) == "test"]
    assert sorted(zip(table["span"], table["key"], strict=True)) == sorted(expected)


def test_labels_stay_with_their_keys(chain, table):
    landed = pd.concat([pd.read_parquet(span.uri) for span in chain.selection.window]).set_index(
        "id"
    )["label"]
    assert (landed[table["key"]].to_numpy() == table["label"].to_numpy()).all()
    assert (table["slice:label"] == table["label"].astype(str)).all()


def test_every_model_has_scores(found, table):
    for model in ("instance-1", "instance-2", "champion"):
        scores = np.stack(table[model])
        assert scores.shape == (len(table), 10)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert not [why for why in found.not_compared if "champion" in why or "instance" in why]


def test_the_champion_is_the_registered_model(chain, table):
    """The champion is the instance that is not the candidate, fetched from the registry.

    Its scores are the same.
    """
    other = next(
        name
        for name in ("instance-1", "instance-2")
        if name != Evaluation.read(chain.evaluation).candidate
    )
    np.testing.assert_array_equal(np.stack(table["champion"]), np.stack(table[other]))


def test_metrics_are_those_of_numpy(found, table):
    names = {"candidate": found.candidate, "champion": "champion"}
    for row in found.slices:
        if row.view:
            continue
        where = (
            table
            if row.slice == "overall"
            else table[table["slice:label"] == row.slice.removeprefix("label=")]
        )
        scores, labels = np.stack(where[names.get(row.model, row.model)]), where["label"].to_numpy()
        assert row.examples == len(where)
        assert row.values["accuracy"] == pytest.approx((scores.argmax(axis=1) == labels).mean())
        losses = -np.log(np.clip(scores[np.arange(len(labels)), labels], 1e-7, 1))
        assert row.values["log_loss"] == pytest.approx(losses.mean(), rel=1e-4, abs=1e-5)


def test_every_slice_of_every_model_is_measured(found, table):
    slices = {"overall", "newest span", *(f"label={label}" for label in table["label"].unique())}
    by_model = {
        model: {row.slice for row in found.slices if row.model == model}
        for model in ("candidate", "champion")
    }
    assert by_model == {"candidate": slices, "champion": slices}
    assert {difference.slice for difference in found.differences} == slices


def test_the_newest_span_is_a_view_of_every_model(found, table):
    newest = table[table["span"] == "2026-01-02"]
    assert (table["view:newest span"] == (table["span"] == "2026-01-02")).all()
    names = {"candidate": found.candidate}
    rows = {row.model: row for row in found.slices if row.slice == "newest span"}
    assert {"candidate", "champion"} < set(rows) and all(row.view for row in rows.values())
    for model, row in rows.items():
        right = np.stack(newest[names.get(model, model)]).argmax(axis=1) == newest["label"]
        assert row.examples == len(newest) and row.values["accuracy"] == pytest.approx(right.mean())
    (difference,) = (row for row in found.differences if row.slice == "newest span")
    assert difference.view and difference.examples == len(newest)


def test_slices_that_are_too_small_are_not_judged(chain, found):
    least = chain.project.settings.evaluate.least_examples
    slices = [
        row for row in found.differences if row.slice != "overall" and row.model == "candidate"
    ]
    small, large = (
        [row for row in slices if (row.examples < least) is less] for less in (True, False)
    )
    assert small and all(math.isnan(row.low) and math.isfinite(row.value) for row in small)
    assert large and all(
        row.family == len(large) and row.low <= row.value <= row.high for row in large
    )


def test_differences_agree_with_the_metrics(found):
    champion, candidate = found.overall("champion"), found.overall("candidate")
    overall = next(row for row in found.differences if row.slice == "overall")
    assert overall.value == pytest.approx(
        candidate.values["accuracy"] - champion.values["accuracy"], abs=1e-6
    )
    assert overall.low <= overall.value <= overall.high


def test_the_candidate_is_the_best_instance_byte_for_byte(chain, found):
    best = choose_candidate(
        [Training.read(chain.model(name)) for name in ("instance-1", "instance-2")]
    )
    assert (found.candidate, found.digest) == (best.instance.name, best.digest)
    assert digest_folder(chain.candidate / SAVED_MODEL) == best.digest


def test_confusion_matrices_count_the_test_split(found, table):
    assert [matrix.model for matrix in found.confusion] == ["candidate", "champion"]
    assert [sum(map(sum, matrix.counts)) for matrix in found.confusion] == [len(table)] * 2


def test_logs_of_every_instance_are_linked(chain):
    for name in ("instance-1", "instance-2"):
        written = {path.name for path in (chain.model(name) / "logs").rglob("*") if path.is_file()}
        assert (
            written
            and {p.name for p in (chain.evaluation / "logs" / name).rglob("*") if p.is_file()}
            == written
        )


def test_champion_that_is_not_in_the_registry_is_not_compared_and_keeps_its_place(
    chain, project, tmp_path
):
    project = with_settings(project, "evaluate", slices=[])
    outputs = Outputs(tmp_path / "evaluation", tmp_path / "model")
    gone = Champion(version="9", digest="d", deployment=1)
    found = forked(
        evaluate_model, project, gone, chain.window, [chain.model("instance-1")], outputs
    )
    (why,) = (told for told in found.not_compared if "champion" in told)
    assert why.startswith("champion version 9 could not be evaluated: ")
    assert (
        found.differences == []
        and found.overall("champion") is None
        and found.overall("candidate") is not None
    )
    for mode in ("better", "not_worse"):
        decision = decide_promotion(found, GateSettings(mode=mode))
        assert (
            not decision.promote
            and why in decision.not_compared
            and "not compared" in decision.reasons[0]
        )


def test_instance_that_is_not_what_training_wrote_is_refused(chain, tmp_path):
    shutil.copytree(chain.model("instance-1"), tmp_path / "model")
    with (tmp_path / "model" / SAVED_MODEL / "saved_model.pb").open("ab") as stream:
        stream.write(b"!")
    outputs = Outputs(tmp_path / "evaluation", tmp_path / "candidate")
    with pytest.raises(IntegrityError):
        forked(evaluate_model, chain.project, None, chain.window, [tmp_path / "model"], outputs)
    assert not outputs.model.exists()


def test_window_without_test_examples(chain, tmp_path):
    for split in ("train", "eval"):
        shutil.copytree(
            chain.window / "2026-01-01" / f"Split-{split}",
            tmp_path / "w" / "2026-01-01" / f"Split-{split}",
        )
    outputs = Outputs(tmp_path / "evaluation", tmp_path / "candidate")
    with pytest.raises(ProjectError, match=r"data\.splits\.test must leave some examples"):
        forked(
            evaluate_model,
            chain.project,
            None,
            tmp_path / "w",
            [chain.model("instance-1")],
            outputs,
        )


def read_slices(chain, slices):
    from perennial.evaluation.prediction_table import read_examples

    return read_examples(chain.window, "id", slices).named


def test_slice_by_a_feature_that_no_example_has(chain):
    found = forked(read_slices, chain, ["date", "optional"])
    assert set(found["slice:optional"]) == {"None"}
    assert sorted(set(found["slice:date"])) == ["2026-01-01", "2026-01-02"]


def measure_new_class():
    """Metrics of a candidate that knows four classes and a champion that knows three, on labels of more than that."""
    from perennial.evaluation.metrics import measure

    labels = [0, 1, 3, 1, 2**60]
    scores = {
        "candidate": np.eye(4)[[0, 1, 3, 1, 0]] * 0.6 + 0.1,
        "champion": np.full((5, 3), 1 / 3),
    }
    table = pd.DataFrame({"label": labels, **{model: list(rows) for model, rows in scores.items()}})
    return table, measure(table, DIGIT, list(scores), [])


def test_class_that_a_model_does_not_know_is_a_loss_not_a_crash():
    table, (candidate, champion) = measure_new_class()
    assert candidate.values["accuracy"] == pytest.approx(4 / 5) and champion.values[
        "accuracy"
    ] == pytest.approx(1 / 5)
    assert champion.values["log_loss"] == pytest.approx(
        (3 * math.log(3) - 2 * math.log(1e-7)) / 5, rel=1e-3
    )
    scores = (np.stack(table[model]) for model in ("candidate", "champion"))
    gain = Pair(*scores, table["label"].to_numpy(), "log_loss").value()
    assert gain == pytest.approx(
        champion.values["log_loss"] - candidate.values["log_loss"], rel=1e-3
    )


def test_overall_metrics_are_numbers(found):
    for row in found.slices:
        assert math.isfinite(row.values["log_loss"]) and 0 <= row.values["accuracy"] <= 1
