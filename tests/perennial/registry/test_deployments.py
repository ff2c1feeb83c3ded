"""Deployments by hand: promote and roll back, on the real ledger and registry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import IntegrityError, LedgerError, RegistryError
from perennial.ledger.events import Ledger
from perennial.registry.deployments import promote_version, roll_back, serving_stack
from perennial.registry.versions import Registry
from tests.perennial.folders import make_model
from tests.perennial.records import deployment


@pytest.fixture
def versions(project, tmp_path):
    """Three registered versions; none serves yet."""
    registry = Registry(project)
    return [registry.register(make_model(tmp_path / name, name)) for name in "abc"]


def _serves(project):
    champion = Ledger(project.ledger_url).champion()
    return champion.version if champion else None


def test_promote_deploys_the_version_and_says_who_and_why(project, versions):
    made = promote_version(project, "2", "a better one")
    assert _serves(project) == "2" and made.digest == versions[1].digest
    assert (made.action, made.why, made.replaces) == ("promote", "a better one", None)
    assert made.by.startswith("user ")


def test_the_alias_follows_what_serves(project, versions):
    registry = Registry(project)
    promote_version(project, "1", "")
    promote_version(project, "3", "")
    assert registry.aliases() == {"champion": "3"}
    roll_back(project, "")
    assert registry.aliases() == {"champion": "1", "challenger": "3"}


def test_promote_without_a_number_takes_the_newest(project, versions):
    assert promote_version(project, None, "").version == "3"


def test_promoting_the_champion_is_refused(project, versions):
    promote_version(project, "2", "")
    with pytest.raises(RegistryError, match="serves already"):
        promote_version(project, "2", "")
    assert len(Ledger(project.ledger_url).deployments()) == 1


def test_promoting_what_does_not_exist_is_refused(project, versions):
    with pytest.raises(RegistryError, match="it has 1, 2, 3"):
        promote_version(project, "9", "")
    assert _serves(project) is None


def test_promoting_from_an_empty_registry_is_refused(project):
    with pytest.raises(RegistryError, match="must have a version to promote"):
        promote_version(project, None, "")


def test_promoting_damaged_files_is_refused_and_the_champion_stays(project, versions):
    promote_version(project, "1", "")
    for path in (project.state / "registry").rglob("variables.index"):
        path.write_text("damaged")
    with pytest.raises(IntegrityError):
        promote_version(project, "2", "")
    assert _serves(project) == "1"


def test_rolling_back_twice_goes_back_two_versions(project, versions):
    for number in ("1", "2", "3"):
        promote_version(project, number, "")
    assert roll_back(project, "wrong").version == "2"
    assert roll_back(project, "wrong again").version == "1" == _serves(project)
    with pytest.raises(LedgerError, match="version 1 serves and none served before it"):
        roll_back(project, "once more")
    assert _serves(project) == "1"


def test_promoting_after_a_rollback_then_rolling_back(project, versions):
    for number in ("1", "2"):
        promote_version(project, number, "")
    roll_back(project, "")
    promote_version(project, "3", "")
    assert roll_back(project, "").version == "1"


def test_nothing_to_roll_back_to(project, versions):
    with pytest.raises(LedgerError, match="nothing serves"):
        roll_back(project, "")


def test_rolling_back_to_damaged_files_is_refused_and_the_champion_stays(project, versions):
    for number in ("1", "2"):
        promote_version(project, number, "")
    for path in [
        *(project.state / "registry").rglob("*.pb"),
        *(project.state / "models").rglob("*.pb"),
    ]:
        path.write_text("damaged")
    with pytest.raises(IntegrityError):
        roll_back(project, "")
    assert _serves(project) == "2"


@given(st.lists(st.one_of(st.just("rollback"), st.sampled_from("abc")), max_size=30))
def test_the_stack_ends_with_what_serves_and_holds_what_rollbacks_left(actions):
    made, model = [], []
    for action in actions:
        if action != "rollback":
            model.append(action)
            made.append(deployment(action))
        elif len(model) > 1:
            model.pop()
            made.append(deployment(model[-1], action="rollback"))
    stack = serving_stack(made)
    assert [item.version for item in stack] == model
    assert [stack[-1].version] == [made[-1].version] if made else stack == []
    assert all(item.action != "rollback" for item in stack)
