"""Tuning on real digits.

From the stabilised weights, never worse than without, resumable, and clear when it fails.
"""

from __future__ import annotations

import pytest

from schemas.records import Tuning
from tests.chain import copy_project, on_another_machine, with_root
from tests.components.tune_model.jobs import (
    KILLED,
    TUNER_FN,
    fail_each,
    fail_some,
    leave_alone,
    search,
    search_again,
    search_by_tuner_fn,
    search_killed,
    searching,
)
from tests.forked import forked
from tests.stored import unfinished


@pytest.fixture(scope="module")
def places(chain, tmp_path_factory):
    """A project that searches, and where the search writes."""
    folder = tmp_path_factory.mktemp("tune")
    return searching(copy_project(chain, folder / "digits")), folder


@pytest.fixture(scope="module")
def searched(chain, places):
    project, folder = places
    return forked(search, project, chain, folder / "searched")


def test_the_first_trial_has_the_settings_own_values(searched, chain):
    train, first = chain.project.settings.train, searched.trials[0]
    assert first.number == 1 and first.values == {
        "units": 64,
        "train.learning_rate": train.learning_rate,
        "train.batch_size": train.batch_size,
    }


def test_every_trial_starts_from_the_stabilised_weights_that_fit(searched):
    for trial in searched.trials:
        whole = trial.values["units"] == 64
        assert trial.started_from == ("8 of 8 weights" if whole else "5 of 8 weights")


def test_every_trial_is_told(searched, places):
    project, folder = places
    assert searched.outcome == "searched" and len(searched.trials) == 3 and searched.tuned is None
    assert searched.why.startswith("a person asked for it; ")
    for trial in searched.trials:
        assert len(trial.losses) == 2 and trial.loss == min(trial.losses) and trial.seconds > 0
        assert 0.001 <= trial.values["train.learning_rate"] <= 0.02
        assert trial.values["train.batch_size"] in (16, 32, 64), (
            "100,000 is more than the train split has"
        )
    assert len({str(trial.values) for trial in searched.trials}) == 3
    assert Tuning.read(folder / "searched") == searched
    assert [path.name for path in (folder / "searched").iterdir()] == ["tuning.json"]
    assert not unfinished(project, "tune_model")


def test_the_best_are_those_of_the_lowest_eval_loss(searched):
    ranked = sorted(searched.trials, key=lambda trial: trial.loss)
    assert searched.trials[0].loss >= ranked[0].loss
    for best, trial in zip(searched.best, ranked[:2], strict=True):
        assert best.source == "tuner" and best.model == {"units": trial.values["units"]}
        assert best.learning_rate == trial.values["train.learning_rate"]
        assert best.batch_size == trial.values["train.batch_size"]


def test_a_killed_search_goes_on_on_another_machine_and_finds_the_same(
    chain, searched, s3, monkeypatch, tmp_path
):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    project = with_root(searching(copy_project(chain, tmp_path / "digits")), s3.new_root())
    other = on_another_machine(project, tmp_path / "elsewhere")
    first, found, left = forked(search_killed, project, other, chain, tmp_path / "output")
    assert found.trials[0] == first, "not run again: even its seconds are the same"
    assert [trial.values for trial in found.trials] == [trial.values for trial in searched.trials]
    for one, two in zip(found.trials, searched.trials, strict=True):
        assert one.losses == pytest.approx(two.losses, rel=0.02)
    assert left == [], "what was kept is gone"


def test_a_search_after_drift_tries_the_earlier_best_too(chain, searched, places, tmp_path):
    project, _ = places
    earlier = searched.best[0].model_copy(
        update={"learning_rate": 0.0123, "batch_size": 64, "model": {"units": 96}}
    )
    two = searching(project, trials=2)
    found = forked(search_again, two, chain, tmp_path / "output", earlier, searched.space)
    assert found.outcome == "searched" and found.why.startswith(
        f"image (span {chain.selection.window[-1].name}) drifted; "
    )
    assert found.trials[0].values == searched.trials[0].values
    assert found.trials[1].values == {
        "units": 96,
        "train.learning_rate": 0.0123,
        "train.batch_size": 64,
    }


@pytest.fixture(scope="module")
def untouched(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("untouched")
    return forked(leave_alone, copy_project(chain, folder / "digits"), chain, folder)


def test_an_earlier_search_is_used_again(untouched):
    record = untouched["earlier"]
    assert record.outcome == "reused" and record.best == record.tuned.best and len(record.best) == 2
    assert "run-0" in record.why and "days ago" in record.why and record.trials == []


def test_tuner_fn_searches_in_its_own_way(untouched, chain):
    """Of two learning rates one learns nothing; the other values are the settings'."""
    record, train = untouched["tuner_fn"], chain.project.settings.train
    (best,) = record.best
    assert (record.outcome, best.model, best.source) == ("searched", {"rate": 0.1}, "tuner")
    assert (best.learning_rate, best.batch_size) == (train.learning_rate, train.batch_size)
    assert (
        record.why == "the model, its tasks or what is searched changed since run-0; the module's "
        "tuner_fn searched"
    )


def test_a_killed_tuner_fn_goes_on_after_its_last_trial_on_another_machine(chain, tmp_path):
    project = copy_project(chain, tmp_path / "digits")
    log = tmp_path / "log"
    # KerasTuner's grid search does not know where it was when it is loaded again.
    module = TUNER_FN.replace('GridSearch(build, "val_loss"', 'RandomSearch(build, "val_loss", 2')
    project.module_path.write_text(module.replace("    fit = {", KILLED.format(log=log)))
    project = with_root(project, str(tmp_path / "root"))
    other = on_another_machine(project, tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match="ended with code 9"):
        forked(search_by_tuner_fn, project, chain, tmp_path / "output")
    assert "folder-00001.json" in unfinished(project, "tune_model")
    record = forked(search_by_tuner_fn, other, chain, tmp_path / "output")
    assert record.best[0].model == {"rate": 0.1}
    assert len(log.read_text().splitlines()) == 3, "the first trial was not run again"
    assert not unfinished(project, "tune_model")


def test_a_trial_that_does_not_build_fails_alone(chain, tmp_path):
    project = copy_project(chain, tmp_path / "digits")
    record = forked(fail_some, project, chain, tmp_path / "output")
    good, failed = record.trials
    assert failed.values == {"parts": 3} and failed.loss is None and "model.py:" in failed.message
    assert (
        good.values == {"parts": 1}
        and good.message is None
        and record.best[0].model == {"parts": 1}
    )
    assert (
        "none of 2 trials (1 failed) was better than the settings' own" in record.why
        and record.best[0].source == "tuner"
    )


@pytest.fixture(scope="module")
def failures(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("failures")
    return forked(fail_each, copy_project(chain, folder / "digits"), chain, folder)


def test_nothing_to_search(failures):
    message, _ = failures["nothing to search"]
    assert message.startswith(
        "ProjectError: project.yaml: tune must have something to search when it has a budget."
    )
    assert "build_model(transform_output, hp), or remove tune.trials and tune.minutes" in message


def test_batches_larger_than_the_train_split(failures):
    message, _ = failures["large batches"]
    assert message.startswith(
        "ProjectError: project.yaml: tune.batch_size must hold a size of at most "
    )
    assert "Received: [100000, 200000]. Add a smaller one" in message


def test_when_every_trial_fails_the_commonest_reason_and_the_line_are_told(failures, chain):
    lines = chain.project.module_path.read_text().splitlines()
    line = next(
        number for number, text in enumerate(lines, 1) if text.startswith("def build_model")
    )
    message, kept = failures["all diverge"]
    assert message.startswith(
        f"TrainingError: model.py:{line}: build_model must train with at least one of "
    )
    assert "all of 2 trials failed, most of them with: training loss must be finite" in message
    assert "lower train.learning_rate" in message
    assert kept == [], "the next attempt tries anew"
