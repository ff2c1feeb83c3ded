"""The whole pipeline under kfp.local, day after day. The tests of this module follow each other."""

import csv
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.digits.land import digits_of_day
from perennial.export.served_model import ServedModel
from perennial.production.log_files import LogFiles
from perennial.production.prediction_log import (
    LoggedAnswer,
    Masks,
    make_tables,
)
from perennial.registry.versions import Registry
from perennial.storage.digests import digest_value
from schemas.records import RunStarted, StepResult
from tests.stored import kept

from .conftest import PERENNIAL, make_again, make_digits

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
WRONG: list[str] = []  # keys of the examples that were given a wrong label


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The example with all of its steps."""
    return make_digits(tmp_path_factory.mktemp("project") / "digits", evaluate={"explain": {}})


def test_nothing_landed(digits):
    result = digits.run()
    assert result.ended.outcome == "nothing_new" and result.exit_code == 0
    assert "data/{YYYY}-{MM}-{DD}.parquet" in result.ended.reasons[0]
    assert "ingest_examples" not in result.seconds


def test_first_day_gives_the_first_champion(digits):
    digits.land("--days", "1")
    result = digits.run()
    assert (result.ended.outcome, result.ended.version, result.ended.champion) == (
        "promoted",
        "1",
        "1",
    )
    assert result.ended.window == result.ended.new_spans == ["2026-01-01"]
    assert "no champion" in result.ended.reasons[0]
    champion = digits.ledger.champion()
    assert champion.digest == Registry(digits.project).version("1").digest


def test_lineage_says_what_the_version_came_from(digits):
    lineage = Registry(digits.project).lineage("1")
    span = _starts(digits)[-1].selection.window[0]
    assert lineage["spans"] == "2026-01-01@1" and lineage["fingerprints"] == span.fingerprint
    assert lineage["schema_digest"] == digits.project.schema_digest()
    assert lineage["project_digest"] == digits.project.project_digest()
    assert {"run", "git_commit", "digest"} <= set(lineage)


def test_nothing_new_after_it(digits):
    result = digits.run()
    assert result.ended.outcome == "nothing_new" and result.ended.champion == "1"
    assert list(result.seconds) == ["select_spans", "conclude_run"]


def test_second_day_ingests_one_span_and_judges_against_the_champion(digits):
    before = _ingested(digits)
    digits.land("--days", "2")
    _mislabel(digits.folder / "data" / "2026-01-02.parquet")
    result = digits.run()
    assert result.ended.outcome in ("promoted", "kept_champion") and result.exit_code == 0
    assert result.ended.window == ["2026-01-01", "2026-01-02"] and result.ended.new_spans == [
        "2026-01-02"
    ]
    assert len(_ingested(digits)) == len(before) + 1
    assert result.ended.version == "2"
    assert result.ended.champion == ("2" if result.ended.outcome == "promoted" else "1")
    assert any("gain in accuracy" in reason or "floor" in reason for reason in result.ended.reasons)


def test_each_step_was_printed_once_when_all_its_tasks_had_ended(digits):
    lines = [
        line.split() for line in digits.printed[-1].splitlines() if line[:1] in ("✓", "=", "✗", "…")
    ]
    steps = [name for _, name, *_ in lines]
    assert len(steps) == len(set(steps))
    notes = {name: " ".join(note[:-2]) for _, name, *note in lines}  # without the seconds
    assert notes["prepare_span"] == ""  # of the new span alone
    assert notes["train_model"] == "2 tasks" and notes["evaluate_model"] == ""
    order = (
        "select_spans",
        "prepare_span",
        "validate_data",
        "train_model",
        "evaluate_model",
        "conclude_run",
    )
    assert [step for step in steps if step in order] == list(order)


# Tasks of a run, the outputs that they make, and whether these are the same to the byte. The other
# steps are in test_training.py.
AGAIN = {
    ("prepare_span", "2026-01-02"): (("checked", "statistics"), False),
    ("validate_data",): (("measured", "validation", "window"), True),
    ("train_model", "instance-1"): (("model",), False),
    ("evaluate_model",): (("evaluation", "model"), True),
    ("probe_model",): (("probing",), True),
}


@pytest.mark.parametrize("task", AGAIN, ids=[step for step, *_ in AGAIN])
def test_a_task_of_the_run_makes_the_same_again_and_changes_nothing(digits, task, tmp_path):
    (outputs, exact), run = AGAIN[task], _starts(digits)[-1].selection.run
    printed = make_again(digits, run, task, tmp_path)
    assert [line.split()[0] for line in printed.splitlines() if str(tmp_path / "") in line][1:] == [
        *outputs
    ]
    assert printed.count("  as in the run\n") == len(outputs) or not exact


@pytest.mark.parametrize(
    "kind, says",
    [
        ("wrong-range", "image.max"),
        ("missing-labels", "label"),
        ("shuffled-columns", "id"),
        ("truncated-file", "whole Parquet file"),
    ],
)
def test_corrupt_day_is_refused_and_the_champion_stays(digits, kind, says):
    champion = digits.ledger.champion()
    digits.land("--days", "3", "--corrupt", f"3={kind}")
    result = digits.run()
    assert result.ended.outcome == "data_rejected" and result.exit_code == 3
    assert "2026-01-03" in result.ended.reasons[0] and says in result.ended.reasons[0]
    assert digits.ledger.champion() == champion
    assert digits.run().ended.outcome == "nothing_new"


def test_the_day_that_lands_again_is_another_version(digits):
    digits.land("--days", "3", "--again", "3")
    result = digits.run()
    assert result.ended.outcome in ("promoted", "kept_champion")
    window = _starts(digits)[-1].selection.window
    assert window[-1].name == "2026-01-03" and window[-1].version == 5


def test_a_task_that_fails_ends_with_its_exit_code_and_in_the_debugger(
    digits, tmp_path, monkeypatch
):
    """It reads what landed where it lies, and by now that is another version."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    selections = [start.selection for start in _starts(digits)]
    broken = [each for each in selections if each.new_spans == ["2026-01-03"]]
    run = next(each.run for each in broken if each.window[-1].version == 4)
    started = [PERENNIAL, "rerun", digits.folder, run, "prepare_span", "--pdb"]
    done = subprocess.run(started, input="p 6 * 7\nq\n", capture_output=True, text=True)
    assert done.returncode == 3 and "(Pdb) 42" in done.stdout
    assert "Traceback" in done.stderr
    assert "data/2026-01-03.parquet must not change while it is read" in done.stderr


def test_no_span_version_was_accepted_twice(digits):
    accepted = [event.body.span.fingerprint for event in digits.ledger.events("span_accepted")]
    assert len(accepted) == len(set(accepted)) == 3


def test_retraining_on_request(digits):
    result = digits.run(retrain=True)
    assert result.ended.outcome in ("promoted", "kept_champion") and result.ended.new_spans == []


def test_every_run_with_work_left_a_report_and_no_machine_path_in_it(digits):
    for event in digits.ledger.events("run_ended"):
        if event.body.outcome == "nothing_new":
            assert event.body.report is None
            continue
        report = digits.folder / event.body.report
        assert event.run in report.read_text()
        assert str(digits.folder) not in report.read_text()


def test_data_docs_and_statistics_are_linked_from_the_report_and_there(digits):
    ended = next(e.body for e in reversed(digits.ledger.events("run_ended")) if e.body.new_spans)
    report = digits.folder / ended.report
    for place in (
        f"data_docs/{ended.new_spans[-1]}/index.html",
        f"statistics/{ended.new_spans[-1]}.html",
    ):
        assert f'href="{place}"' in report.read_text()
        assert (report.parent / place).is_file()


def test_status_tells_the_story(digits):
    done = digits.command("status")
    champion = digits.ledger.champion()
    assert done.returncode == 0
    assert f"version {champion.version}" in done.stdout and champion.digest in done.stdout
    assert "data_rejected" in done.stdout and "image.max" in done.stdout


def test_batch_predictions_of_an_unseen_day(digits):
    digits.land("--days", "4")
    data = digits.folder / "data" / "2026-01-04.parquet"
    output = digits.folder / "scored.parquet"
    done = digits.command("predict", str(data), "--output", str(output))
    assert done.returncode == 0, done.stderr
    scored = pq.read_table(output).to_pylist()
    assert {row["id"] for row in scored} == set(pq.read_table(data)["id"].to_pylist())
    assert {row["model_version"] for row in scored} == {digits.ledger.champion().version}
    assert sum(row["predicted_class"] == row["label"] for row in scored) / len(scored) > 0.7


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_batch_predictions_do_not_depend_on_the_format(digits, ending, tmp_path):
    expected = {
        row["id"]: row["predicted_class"]
        for row in pq.read_table(digits.folder / "scored.parquet").to_pylist()
    }
    table = pq.read_table(digits.folder / "data" / "2026-01-04.parquet").drop(["label"])
    path = tmp_path / f"images{ending}"
    _write(table, path)
    done = digits.command("predict", str(path))
    assert done.returncode == 0, done.stderr
    found = pq.read_table(path.with_suffix(".predictions.parquet")).to_pylist()
    assert {row["id"]: row["predicted_class"] for row in found} == expected


def test_batch_input_that_does_not_fit_names_the_feature_and_leaves_the_reasons_alone(
    digits, tmp_path
):
    path = tmp_path / "short.jsonl"
    path.write_text('{"id": "a", "image": [1, 2, 3]}\n')
    done = digits.command("predict", str(path))
    assert done.returncode == 3
    assert "image" in done.stderr and "64" in done.stderr and "Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["short.jsonl", "short.predictions.set_aside.jsonl"]


def test_rollback_and_promote_by_hand(digits):
    served = [deployment.version for _, deployment in digits.ledger.deployments()]
    done = digits.command("rollback", "--why", "a test")
    assert done.returncode == 0, done.stderr
    assert digits.ledger.champion().version == served[-2]
    assert digits.command("promote", served[-1]).returncode == 0
    assert digits.ledger.champion().version == served[-1]
    last = digits.ledger.deployments()[-2][1]
    assert (last.action, last.why) == ("rollback", "a test")
    assert last.by.startswith("user ")


def test_wrong_labels_of_a_day_are_found_by_a_version_that_did_not_learn_them(digits):
    done = digits.command_of("labels", "suspect", "2026-01-02", "--json", "--count", "100")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["version"], found["splits"]) == ("1", ["train", "eval", "test"])
    keys = [suspect["key"] for suspect in found["suspects"]]
    assert len(set(keys) & set(WRONG)) >= 2 and found["found"] == len(keys) < 40
    worst = found["suspects"][0]
    assert worst["given"] != worst["likelier"]
    assert worst["chance_given"] < worst["chance_likelier"]


def test_of_a_day_that_every_version_learned_only_the_test_split_is_looked_at(digits):
    done = digits.command_of("labels", "suspect", "2026-01-01")
    assert done.returncode == 0, done.stderr
    assert "test examples of span 2026-01-01" in done.stdout
    assert "which was trained on the others, as every version was" in done.stdout


def test_people_label_what_is_worth_it_and_their_labels_train_and_measure(digits, tmp_path):
    project, champion = digits.project, digits.ledger.champion()
    day = {row["id"]: row for row in digits_of_day(5).to_pylist()}
    _log(project, champion.version, day)
    challenger = "1" if champion.version != "1" else "2"
    assert digits.command_of("ab", "start", challenger, "--shadow").returncode == 0
    tasks = tmp_path / "tasks.json"
    done = digits.command_of("labels", "next", "--count", "120", "--output", str(tasks))
    assert done.returncode == 0, done.stderr
    assert f"120 examples to label, of {len(day)} in the log, by versions" in done.stdout
    asked = json.loads(tasks.read_text())
    keys = {task["data"]["id"] for task in asked}
    assert len(asked) == len(keys) == 120 and keys <= day.keys()
    labelled = [
        {**task, "annotations": [_annotation(day[task["data"]["id"]]["label"])]} for task in asked
    ]
    export = tmp_path / "export.json"
    export.write_text(json.dumps([*labelled[:-1], {**asked[-1], "annotations": []}]))
    importing = ("labels", "import", str(export), "--span", "2026-01-05")
    done = digits.command_of(*importing, "--set", "date=2026-01-05")
    assert done.returncode == 0, done.stderr
    assert "119 labels landed as span 2026-01-05" in done.stdout and "label: 1" in done.stdout
    landed = pq.read_table(digits.folder / "data" / "2026-01-05.parquet").to_pylist()
    assert all(row == day[row["id"]] for row in landed)
    again = digits.command_of(*importing)
    assert again.returncode == 3 and "a span that has landed" in again.stderr
    assert "2026-01-05" in digits.run().ended.new_spans
    (metric,) = json.loads(digits.command_of("labels", "metric", "--json").stdout)
    assert (metric["labelled"], metric["examples"], metric["population"]) == (119, 120, len(day))
    assert metric["value"]["low"] <= metric["value"]["value"] <= metric["value"]["high"]
    done = digits.command_of("labels", "next", "--count", "999", "-o", str(tmp_path / "rest.csv"))
    with (tmp_path / "rest.csv").open() as stream:
        assert {row["id"] for row in csv.DictReader(stream)} == day.keys() - keys


def _annotation(label: int) -> dict:
    choice = {"type": "choices", "value": {"choices": [str(label)]}}
    return {"was_cancelled": False, "updated_at": "2026-02-01T00:00:00Z", "result": [choice]}


def _log(project, version: str, day: dict[str, dict]) -> None:
    """Logs the champion's answers about a day, as the server does."""
    registry = Registry(project)
    model = ServedModel.load(registry.fetch(registry.version(version)))
    images = np.array([row["image"] for row in day.values()], np.float32)
    (scores,) = model.predict_columns({"image": images}).values()
    answer = LoggedAnswer(
        request="r1",
        arm="champion",
        assigned="champion",
        test=None,
        version=version,
        contract=digest_value(model.contract.model_dump(mode="json")),
        time=datetime.now(UTC),
        latency_ms=1.0,
        chance=1.0,
        keys=list(day),
        features={"image": images},
        outputs={"class": scores.argmax(axis=1), "probabilities": scores},
    )
    for date, table in make_tables([answer], Masks("id")):
        LogFiles.of_project(project).write(table, date, "part-1.parquet")


def _mislabel(day: Path) -> None:
    """Gives three images of a day the label of another digit."""
    table = pq.read_table(day)
    keys, labels = table["id"].to_pylist(), table["label"].to_pylist()
    for row in (10, 60, 110):
        labels[row] = (labels[row] + 3) % 10
        WRONG.append(keys[row])
    pq.write_table(table.set_column(3, "label", pa.array(labels, pa.int64())), day)


def _starts(digits) -> list[RunStarted]:
    return [start for _, start, _ in digits.ledger.runs()]


def _ingested(digits) -> list[StepResult]:
    return kept(digits.project, "ingest_examples")


def _write(table: pa.Table, path: Path) -> None:
    rows = table.to_pylist()
    with path.open("w", newline="") as stream:
        if path.suffix == ".jsonl":
            stream.writelines(json.dumps(row) + "\n" for row in rows)
            return
        writer = csv.DictWriter(stream, table.column_names)
        writer.writeheader()
        writer.writerows({**row, "image": json.dumps(row["image"])} for row in rows)
