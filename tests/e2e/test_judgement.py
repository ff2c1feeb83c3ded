"""Whole runs.

A candidate that is not good enough is tried again with other draws, and only then.
"""

import pytest

from perennial.ledger.events import body_of
from schemas.records import DecisionMade
from tests.e2e.conftest import kill_when_done, make_digits

PASSWORD = "open-sesame"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def repeated(tmp_path_factory, postgres):
    """A first champion, then a run whose candidate reaches no floor of 100%, repeated once.

    The ledger is on PostgreSQL, with a password in its URL (which the test's server does not ask).
    """
    digits = make_digits(
        tmp_path_factory.mktemp("judgement") / "digits",
        ledger={"url": postgres.new_ledger().replace("@", f":{PASSWORD}@", 1)},
        train={"instances": 1, "epochs": 15},
        gate={"mode": "not_worse", "margin": 0.05, "floors": {"accuracy": 0.3}},
    )
    digits.land("--days", "1")
    assert digits.run_command()[1]["outcome"] == "promoted"
    settings = digits.folder / "project.yaml"
    text = (
        settings.read_text()
        .replace("accuracy: 0.3", "accuracy: 1.0")
        .replace("gate:", "gate:\n  repeats: 1")
    )
    settings.write_text(text)
    digits.land("--days", "2")
    return digits, digits.run_command()[1]


def test_a_rejected_run_is_repeated_as_often_as_is_set(repeated):
    digits, result = repeated
    runs = [start.selection for _, start, _ in digits.ledger.runs()]
    assert [run.attempt for run in runs] == [0, 0, 1]
    assert result["outcome"] == "kept_champion" and digits.ledger.champion().version == "1"


def test_a_repetition_draws_other_weights_on_the_same_window(repeated):
    digits, _ = repeated
    first, again = [start.selection for _, start, _ in digits.ledger.runs()][1:]
    assert again.window == first.window and again.new_spans == []
    assert {i.seed for i in first.instances}.isdisjoint(i.seed for i in again.instances)
    assert len({body_of(e, DecisionMade).digest for e in digits.ledger.events("decision")}) == 3


def test_no_file_that_others_can_read_holds_the_ledgers_password(repeated):
    digits, _ = repeated
    files = [path for path in (digits.folder / ".perennial").rglob("*") if path.is_file()]
    holding = [path for path in files if PASSWORD.encode() in path.read_bytes()]
    assert files and [path for path in holding if path.stat().st_mode & 0o044] == []


def test_every_decision_of_a_repeated_run_is_in_the_ledger(repeated):
    digits, _ = repeated
    decisions = [body_of(e, DecisionMade).decision for e in digits.ledger.events("decision")]
    assert [decision.promote for decision in decisions] == [True, False, False]
    assert all(decision.worth_repeating for decision in decisions[1:])


def test_a_repetition_that_was_killed_is_taken_up_again_and_no_other_follows(repeated):
    digits, _ = repeated
    digits.land("--days", "3")
    kill_when_done(digits, "stabilise_weights", repetition=1)
    assert digits.run_command()[1]["outcome"] == "kept_champion"
    killed, again = (start.selection for _, start, _ in digits.ledger.runs()[-2:])
    assert (killed.attempt, again.attempt, again.resumes) == (1, 1, killed.run)
    assert again.instances == killed.instances and again.window == killed.window
    assert digits.run_command()[1]["outcome"] == "nothing_new"
