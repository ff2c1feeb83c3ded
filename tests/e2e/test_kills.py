"""A run that is killed in every one of its steps."""

import pytest

from perennial.registry.versions import Registry
from perennial.storage.digests import verify_folder
from tests.stored import kept

from .conftest import kill_when_done, make_digits

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]  # nine runs

# Killed as soon as the step before is done, that is, while this step works.
KILLED_IN = {
    "prepare_span": "select_spans",
    "validate_data": "prepare_span",
    "analyse_features": "validate_data",
    "train_model": "stabilise_weights",
    "register_model": "decide_promotion",
    "validate_serving": "register_model",
    "push_model": "validate_serving",
    "conclude_run": "push_model",
}


def test_run_killed_at_any_step_leaves_nothing_half_done_and_is_completed_by_the_next(tmp_path):
    digits = make_digits(
        tmp_path / "digits",
        train={"instances": 1, "epochs": 4},
        gate={"floors": {}, "trivial": "warn"},
    )
    digits.land("--days", "1")
    for step, before in KILLED_IN.items():
        kill_when_done(digits, before)
        assert nothing_half_published(digits), step
        assert digits.ledger.judged_spans() == {}, step
    code, result = digits.run_command()
    assert code == 0 and result["outcome"] == "promoted" and result["new_spans"] == ["2026-01-01"]
    # What was finished before was not done again.
    assert "prepare_span" not in result["seconds"] and result["seconds"]["train_model"] < 1
    assert len(kept(digits.project, "ingest_examples")) == 1
    assert len(kept(digits.project, "train_model")) == 1
    assert [version.version for version in Registry(digits.project).versions()] == ["1"]
    assert [deployment.version for _, deployment in digits.ledger.deployments()] == ["1"]
    assert len(digits.ledger.events("span_accepted")) == 1
    unended = [start for _, start, end in digits.ledger.runs() if end is None]
    assert len(unended) == len(KILLED_IN)
    assert digits.run_command()[1]["outcome"] == "nothing_new"


def nothing_half_published(digits) -> bool:
    """Every version is whole and every deployment is of a version that is."""
    registry = Registry(digits.project)
    versions = {version.version: version for version in registry.versions()}
    for version in versions.values():
        verify_folder(registry.fetch(version), version.digest)
    return all(deployment.version in versions for _, deployment in digits.ledger.deployments())
