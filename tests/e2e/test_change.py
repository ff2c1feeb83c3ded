"""A change of the project makes the steps run again that read what changed.

The tests follow each other.
"""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from perennial.runner.step_display import IMPORTS
from tests.e2e.conftest import make_digits, start
from tests.stored import kept, results_of

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A project that trains one instance."""
    return make_digits(
        tmp_path_factory.mktemp("project") / "digits", train={"instances": 1, "epochs": 10}
    )


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


def test_an_edit_while_a_run_goes_on_counts_in_the_next_one(digits):
    digits.land("--days", "1")
    module = digits.folder / "model.py"
    text = module.read_text()
    running = start(digits)
    for line in running.stdout:
        if " select_spans " in line:
            module.write_text("def broken(:")
    assert running.wait() == 0 and digits.ledger.champion().version == "1"
    module.write_text(text)
    package = digits.ledger.newest_run()[1].selection.package
    stored = results_of(digits.project).objects.list("packages")
    assert [each.name for each in stored] == [f"packages/{package}.tar"]
    assert f"package {package}" in digits.command("explain", "1").stdout


def test_the_champion_is_kept_where_the_candidate_is_no_better(digits):
    assert (
        digits.run(retrain=True).ended.outcome == "kept_champion"
    )  # the same seeds give the same model


def test_another_margin_asks_the_gate_again_and_trains_nothing(digits):
    change(digits, "gate", mode="not_worse", margin=0.1)
    result = digits.run(retrain=True)
    # The candidate has the bytes of the one that was kept from serving: it is that version.
    assert result.ended.outcome == "promoted" and result.ended.champion == "2"
    assert worked(digits) == {*LOOP, "validate_serving", "push_model"}


def test_mixed_labels_are_a_warning_and_by_a_setting_keep_the_champion(digits):
    change(digits, "gate", margin=0.9, floors={})  # any candidate is good enough
    change(digits, "evaluate", least_examples=10)
    digits.land("--days", "2")
    module = digits.folder / "model.py"
    module.write_text(module.read_text() + "# Edited.\n")
    mix_labels(digits.folder / "data" / "2026-01-02.parquet")
    code, result = digits.run_command()
    assert (code, result["outcome"]) == (0, "promoted")
    assert len(kept(digits.project, "ingest_examples")) == 2  # each day once
    first = result["warnings"][0]
    assert (first["kind"], result["warned"] > 0) == ("newest_span", True)
    assert first["numbers"]["value"] < first["numbers"]["high"] < 0
    assert "champion version 2's accuracy falls from" in first["message"]
    for command in ("status", "history"):
        assert first["message"] in digits.command(command).stdout
    change(digits, "gate", newest_span="block")
    ended = digits.run(retrain=True).ended
    assert ended.outcome == "kept_champion" and "falls from" in ended.reasons[0]


def mix_labels(path):
    """Gives two of five rows the label of another digit."""
    table = pq.read_table(path)
    labels = [
        (label + 3) % 10 if row % 5 < 2 else label
        for row, label in enumerate(table["label"].to_pylist())
    ]
    place = table.schema.get_field_index("label")
    pq.write_table(table.set_column(place, "label", pa.array(labels, pa.int64())), path)
