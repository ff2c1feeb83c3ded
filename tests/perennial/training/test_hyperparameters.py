"""Whether an earlier search is still good, and what makes it one of another space."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import ProjectError
from perennial.settings import parse_settings
from perennial.training.hyperparameters import (
    age_in_days,
    one_process,
    settings_hyperparameters,
    space_digest,
    usable,
)
from schemas.records import Hyperparameters, Tuned
from tests.perennial.folders import make_project

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEST = Hyperparameters(learning_rate=0.01, batch_size=16, source="tuner")


def _tuned(days: float, zone: bool = True) -> Tuned:
    at = NOW - timedelta(days=days)
    return Tuned(
        best=[BEST],
        space="s",
        at=(at if zone else at.replace(tzinfo=None)).isoformat(),
        run="run-3",
    )


@given(st.floats(0, 400), st.floats(0.1, 400), st.booleans())
def test_a_search_is_used_until_it_is_too_old_or_a_person_asks(days, most, asked):
    tuned = _tuned(days)
    found, reason = usable(tuned, NOW, most, asked)
    good = not asked and age_in_days(tuned, NOW) <= most
    assert (found == tuned) == good and (found is None) != good
    assert bool(reason) != good


def test_reasons_end_a_sentence():
    assert usable(None, NOW, 30, asked=False) == (None, "there was no search before")
    assert usable(None, NOW, 30, asked=True) == (None, "a person asked for it")
    _, reason = usable(_tuned(31.26), NOW, 30, asked=False)
    assert reason == "that of run-3 is 31.3 days old, more than tune.max_age_days of 30"


@pytest.mark.parametrize("zone", [True, False])
def test_age_is_told_in_utc(zone):
    assert age_in_days(_tuned(2.5, zone), NOW) == 2.5
    assert age_in_days(_tuned(-3), NOW) == 0, "a clock that is ahead"


@pytest.mark.parametrize(
    "section, changes",
    [
        ("tune", {"learning_rate": [0.001, 0.1]}),
        ("tune", {"batch_size": [8, 16]}),
        ("tune", {"algorithm": "random"}),
        ("tune", {"best": 2}),
        ("train", {"learning_rate": 0.5}),
        ("train", {"batch_size": 7}),
        ("train", {"balance": "class_weights"}),
        ("model", {"tasks": [{"name": "digit", "kind": "multi_class"}]}),
    ],
)
def test_what_decides_the_search_makes_another_space(tmp_path, section, changes):
    before = space_digest(make_project(tmp_path / "before"))
    assert space_digest(make_project(tmp_path / "after", **{section: changes})) != before


@pytest.mark.parametrize(
    "section, changes",
    [
        ("tune", {"trials": 99, "minutes": 5, "epochs": 9, "max_age_days": 3}),
        ("train", {"instances": 5, "epochs": 9, "patience": 2, "seed": 4, "strategy": "mirrored"}),
        ("stabilise", {"draws": 9}),
    ],
)
def test_budget_and_the_rest_of_training_do_not(tmp_path, section, changes):
    before = space_digest(make_project(tmp_path / "before"))
    assert space_digest(make_project(tmp_path / "after", **{section: changes})) == before


def test_what_is_searched_is_not_fixed_by_the_settings(tmp_path):
    """The settings' own learning rate and batch size count only where there is no range of them."""
    tune = {"learning_rate": [0.001, 0.1], "batch_size": [16, 32]}
    spaces = [
        space_digest(
            make_project(
                tmp_path / str(rate), tune=tune, train={"learning_rate": rate, "batch_size": size}
            )
        )
        for rate, size in ((0.01, 16), (0.02, 32))
    ]
    assert spaces[0] == spaces[1]


def test_another_module_is_another_space(tmp_path):
    project = make_project(tmp_path)
    before = space_digest(project)
    project.module_path.write_text(project.module_path.read_text() + "# another\n")
    assert space_digest(project) != before


def test_hyperparameters_of_the_settings(tmp_path):
    settings = make_project(tmp_path, train={"learning_rate": 0.25, "batch_size": 7}).settings
    assert settings_hyperparameters(settings) == Hyperparameters(learning_rate=0.25, batch_size=7)


def test_workers_do_not_wait_for_each_other_in_one_process(tmp_path):
    train = make_project(tmp_path, train={"strategy": "multi_worker"}).settings.train
    assert one_process(train).strategy == "one_device"
    other = train.model_copy(update={"strategy": "mirrored"})
    assert one_process(other) == other


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("trials", 0, "must be greater than or equal to 1. Received: 0"),
        ("minutes", 0, "must be greater than 0. Received: 0"),
        ("best", 0, "must be greater than or equal to 1. Received: 0"),
    ],
)
def test_a_search_without_a_trial_is_refused(key, value, says):
    text = f"name: digits\nlabel: label\ndata: {{spans: x, key: id}}\ntune: {{{key}: {value}}}\n"
    with pytest.raises(ProjectError) as caught:
        parse_settings(text)
    assert caught.value.where == f"project.yaml: tune.{key}" and says in str(caught.value)
    assert "docs/settings.md" in caught.value.remedy
