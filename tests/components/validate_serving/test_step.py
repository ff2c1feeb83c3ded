"""The serving check: the real server answers as evaluation did, or the version is not pushed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.validate_serving.step import (
    TOLERANCE,
    compare_answers,
    flatten_prediction,
    load_examples,
    make_instance,
    validate_serving,
)
from perennial.errors import ServingError
from perennial.export.contract import read_contract
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import (
    Evaluation,
    ModelContract,
    ModelVersion,
    ServedFeature,
    ServedTask,
    ServingCheck,
)
from tests.forked import forked

ROWS = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(0, 1), min_size=width, max_size=width), min_size=1, max_size=5
    )
)


def _version(model):
    digest = digest_folder(model / SAVED_MODEL)
    return ModelVersion(name="digits", version="2", digest=digest, source="", mlflow_run="")


def test_the_candidate_answers_as_it_was_evaluated(chain, tmp_path):
    version = _version(chain.candidate)
    check = forked(
        validate_serving,
        chain.project,
        version,
        chain.window,
        chain.evaluation,
        chain.candidate,
        tmp_path,
    )
    assert check.passed and check.requests == 16 and check.largest_difference <= TOLERANCE
    assert check.seconds_to_ready > 0 and ServingCheck.read(tmp_path) == check


def test_another_model_than_was_evaluated_is_refused(chain, tmp_path):
    candidate = Evaluation.read(chain.evaluation).candidate
    other = chain.model(next(name for name in ("instance-1", "instance-2") if name != candidate))
    with pytest.raises(ServingError, match="version 2 must answer as evaluation did"):
        forked(
            validate_serving,
            chain.project,
            _version(other),
            chain.window,
            chain.evaluation,
            other,
            tmp_path,
        )
    assert not ServingCheck.read(tmp_path).passed


@pytest.mark.parametrize("kind", ["regression", "several"])
def test_every_task_answers_as_it_was_evaluated(kinds, tmp_path, kind):
    made = kinds[kind]
    version = _version(made.candidate).model_copy(update={"name": kind})
    check = forked(
        validate_serving,
        made.project,
        version,
        made.window,
        made.evaluation,
        made.candidate,
        tmp_path,
    )
    assert check.passed and check.requests == 16 and check.largest_difference <= TOLERANCE


def load_some(kind):
    return load_examples(
        "id", read_contract(kind.candidate / SAVED_MODEL), kind.window, kind.evaluation
    )


def test_examples_are_sent_without_the_optional_feature_that_they_lack(kinds):
    instances, expected = forked(load_some, kinds["several"])
    assert {frozenset(instance) for instance in instances} == {
        frozenset({"sex", "age", "bmi", "ltg"}),
        frozenset({"sex", "age", "bmi", "ltg", "pressure"}),
    }
    assert len(expected) == 16 and {len(row) for row in expected} == {3}


CONTRACT = ModelContract(
    features=[
        ServedFeature(name="grid", dtype="float32", shape=[2, 2]),
        ServedFeature(name="city", dtype="string", shape=[], default=["none"]),
    ],
    tasks=[],
)
GRID = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("held", "instance"),
    [
        (
            {"grid": GRID, "city": [b"Turin"], "id": [b"a"]},
            {"grid": [[1.0, 2.0], [3.0, 4.0]], "city": "Turin"},
        ),
        ({"grid": GRID}, {"grid": [[1.0, 2.0], [3.0, 4.0]]}),
        ({"grid": [math.nan, *GRID[1:]]}, None),
        (
            {"grid": GRID, "city": [b"\xff"]},
            {"grid": [[1.0, 2.0], [3.0, 4.0]], "city": {"b64": "/w=="}},
        ),
    ],
)
def test_example_as_a_client_would_send_it(held, instance):
    assert make_instance(CONTRACT, held) == instance


def test_numbers_of_an_answer():
    tasks = [
        ServedTask(name="tip", kind="binary", classes=2),
        ServedTask(name="fare", kind="regression"),
    ]
    tip, fare = {"class": 1, "probabilities": [0.25, 0.75]}, {"value": 9.5}
    assert flatten_prediction(tip, tasks[:1]) == [0.25, 0.75] and flatten_prediction(
        fare, tasks[1:]
    ) == [9.5]
    assert flatten_prediction({"fare": fare, "tip": tip}, tasks) == [0.25, 0.75, 9.5]


@pytest.mark.parametrize("answered, passed", [(12345.9, True), (12347.0, False), (-12345.0, False)])
def test_large_values_differ_in_proportion(answered, passed):
    assert compare_answers([[answered]], [[12345.0]], 1.0).passed is passed


@given(ROWS)
def test_the_same_answers_pass(rows):
    check = compare_answers(rows, rows, 1.0)
    assert check.passed and check.largest_difference == 0 and check.requests == len(rows)


@given(ROWS, st.data(), st.floats(TOLERANCE * 2, 1))
def test_one_answer_beyond_the_tolerance_is_refused(rows, data, gap):
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[0]) - 1))
    answered = [list(values) for values in rows]
    answered[row][column] += gap
    check = compare_answers(answered, rows, 1.0)
    assert not check.passed and check.largest_difference == pytest.approx(gap)


@given(ROWS, st.data(), st.booleans())
def test_what_is_no_number_is_refused(rows, data, on_both_sides):
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[0]) - 1))
    answered = [list(values) for values in rows]
    answered[row][column] = math.nan
    assert not compare_answers(answered, answered if on_both_sides else rows, 1.0).passed


@given(ROWS, st.data())
def test_fewer_answers_than_questions_are_refused(rows, data):
    fewer = data.draw(st.sampled_from([rows[:-1], [rows[0][:-1], *rows[1:]]]))
    with pytest.raises(ValueError, match=r"(shorter|longer)"):
        compare_answers(fewer, rows, 1.0)


def test_answers_to_nothing_are_refused():
    assert not compare_answers([], [], 1.0).passed
