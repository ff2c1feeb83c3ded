"""A change of the project makes the steps run again that read what changed.

The tests follow each other.
"""

import pytest
import yaml

from perennial.runner.step_display import IMPORTS

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

LOOP = ("select_spans", "decide_promotion", "register_model", "conclude_run")


def change(digits, section, **values):
    path = digits.folder / "project.yaml"
    settings = yaml.safe_load(path.read_text())
    settings[section] = {**settings.get(section, {}), **values}
    path.write_text(yaml.safe_dump(settings))


def worked(digits):
    """Steps of the last run of which a task was not found in the cache."""
    lines = [line.split() for line in digits.printed[-1].splitlines()]
    return {line[1] for line in lines if line[:1] == ["✓"]} - {IMPORTS}


def test_the_champion_is_kept_where_the_candidate_is_no_better(digits):
    digits.land("--days", "1")
    assert digits.run().ended.outcome == "promoted"
    assert (
        digits.run(retrain=True).ended.outcome == "kept_champion"
    )  # the same seeds give the same model


def test_another_margin_asks_the_gate_again_and_trains_nothing(digits):
    change(digits, "gate", mode="not_worse", margin=0.1)
    result = digits.run(retrain=True)
    # The candidate has the bytes of the one that was kept from serving: it is that version.
    assert result.ended.outcome == "promoted" and result.ended.champion == "2"
    assert worked(digits) == {*LOOP, "validate_serving", "push_model"}
