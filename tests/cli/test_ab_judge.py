"""`perennial ab judge` over the real registry, ledger, prediction log and landed labels."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.ledger.events import Ledger, body_of
from perennial.production.ab_evidence import judge_test
from perennial.production.arms import Challenger, require_challenger, split_point
from perennial.production.log_files import LogFiles, part_name
from perennial.production.prediction_log import LoggedAnswer, Masks, make_tables
from perennial.project import Project
from perennial.runner.judge_tests import judge_tests
from schemas.records import ABEnded
from tests.chain import span_of
from tests.perennial.folders import make_project
from tests.perennial.judged import whole_run
from tests.perennial.records import judged

CLASSES = 10
Right = Callable[[np.random.Generator, bool], bool]
_numbers = count(1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 1 serves; 2 was registered and never served."""
    project = make_project(tmp_path_factory.mktemp("judged") / "digits")
    for number in (1, 2):
        whole_run(project, f"run-{number}", f"model {number}", promote=number == 1)
    return project


@pytest.fixture
def ledger(project: Project) -> Ledger:
    return Ledger(project.ledger_url)


def call(project: Project, name: str, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["ab", name, str(project.folder), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


class Traffic:
    """Answers to requests with new keys, one each, by the split of the running test, and their labels."""

    def __init__(self, project: Project, tested: Challenger, rows: int) -> None:
        self.project, self.tested = project, tested
        self.name = f"2026-02-{next(_numbers):02d}"
        self.keys = [f"{self.name}-{number}" for number in range(rows)]
        self.labels = np.random.default_rng(0).integers(0, CLASSES, rows)

    def log(
        self, right: Right, takes: Callable[[str], bool] | None = None, fallback: bool = False
    ) -> None:
        """Logs the answers; `right` draws whether one is right, given whether the challenger gave it."""
        rng, takes = np.random.default_rng(1), takes or self.tested.takes
        now, answers = datetime.now(UTC), []
        for number, (key, label) in enumerate(zip(self.keys, self.labels.tolist(), strict=True)):
            time = now + timedelta(microseconds=number)
            if self.tested.shadow:
                hard = rng.random() < 0.3
                answers += [
                    self._answer(
                        key,
                        time,
                        arm,
                        arm,
                        label if right(rng, arm == "shadow") or not hard else label + 1,
                    )
                    for arm in ("champion", "shadow")
                ]
                continue
            challenger = takes(key)
            assigned = "challenger" if challenger else "champion"
            arm = "champion" if fallback else assigned
            answers.append(
                self._answer(
                    key, time, arm, assigned, label if right(rng, challenger) else label + 1
                )
            )
        for number, (day, table) in enumerate(make_tables(answers, Masks.of_project(self.project))):
            LogFiles.of_project(self.project).write(table, day, part_name(now, self.name, number))

    def _answer(
        self, key: str, time: datetime, arm: str, assigned: str, label: int
    ) -> LoggedAnswer:
        scores = np.eye(CLASSES, dtype=np.float32)[[label % CLASSES]] * 0.9 + 0.01
        return LoggedAnswer(
            request=key, arm=arm, assigned=assigned, test=self.tested.test,
            version="1" if arm == "champion" else self.tested.version, contract="c", time=time,
            latency_ms=2.0, chance=1.0, keys=[key], features={}, outputs={"probabilities": scores},
        )  # fmt: skip

    def label(self, which: Callable[[int, str], bool] = lambda number, key: True) -> None:
        path = Path(self.project.folder) / "data" / f"{self.name}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows = [number for number, key in enumerate(self.keys) if which(number, key)]
        labels = pa.array(self.labels[rows], pa.int64())
        pq.write_table(pa.table({"id": [self.keys[row] for row in rows], "label": labels}), path)
        ledger = Ledger(self.project.ledger_url)
        ledger.append(judged(True, span_of(path)))
        ledger.close()


def begin(project: Project, ledger: Ledger, version: str, rows: int, *arguments: str) -> Traffic:
    call(project, "start", version, *arguments)
    return Traffic(project, require_challenger(ledger), rows)


def test_a_test_waits_for_labels_and_takes_a_harmful_challenger_back(
    project: Project, ledger: Ledger
) -> None:
    assert call(project, "judge").stdout == "no test is running\n"
    traffic = begin(project, ledger, "2", 1200, "--share", "0.4")
    traffic.log(lambda rng, challenger: rng.random() < (0.6 if challenger else 0.9))
    waits = call(project, "judge")
    assert (waits.exit_code, "goes on: no label has come" in waits.stdout) == (0, True)
    traffic.label()
    asked = call(project, "judge", "--dry-run", "--json")
    verdict = json.loads(asked.stdout)
    assert (asked.exit_code, verdict["action"], verdict["acted"]) == (3, "roll_back", False)
    quality = verdict["quality"]
    assert (quality["measure"], quality["rows"]) == ("accuracy", 1200)
    assert quality["champion_units"] + quality["challenger_units"] == 1200
    assert quality["low"] < -0.25 < quality["high"] < 0
    assert [guard["measure"] for guard in verdict["guards"]] == ["slow", "failed"]
    done = call(project, "judge")
    assert (done.exit_code, done.stdout.count("\n")) == (3, 1)
    ended = body_of(ledger.events("ab_ended")[-1], ABEnded)
    assert (ended.test, ended.outcome) == (traffic.tested.test, "rolled_back")
    assert any("accuracy" in line and "units" in line for line in ended.reasons)
    assert call(project, "judge").stdout == "no test is running\n", "it is decided once"
    assert ledger.champion().version == "1"


def test_a_challenger_that_cannot_answer_is_taken_back_by_the_watch_before_any_label(
    project: Project, ledger: Ledger
) -> None:
    traffic = begin(project, ledger, "2", 600, "--share", "0.3")
    traffic.log(lambda rng, challenger: True, fallback=True)
    stop, lines = threading.Event(), []

    def tell(_: Project, text: str, trouble: bool) -> None:
        lines.append((text, trouble))
        stop.set()

    judge_tests([SimpleNamespace(project=project)], tell, stop)
    ((line, trouble),) = lines
    assert line.startswith(f"test {traffic.tested.test}: roll_back: ") and not trouble
    assert "share of failed answers 1 against 0" in line


def test_a_split_that_is_not_as_intended_ends_the_test(project: Project, ledger: Ledger) -> None:
    traffic = begin(project, ledger, "2", 600, "--share", "0.3")
    salt = traffic.tested.salt
    traffic.log(lambda rng, challenger: challenger, takes=lambda key: split_point(salt, key) < 0.15)
    traffic.label()
    done = call(project, "judge")
    assert (done.exit_code, "is invalid: keys by arm are not as intended" in done.stdout) == (
        3,
        True,
    )
    assert body_of(ledger.events("ab_ended")[-1], ABEnded).outcome == "invalid"


def test_labels_that_come_for_one_version_alone_end_the_test(
    project: Project, ledger: Ledger
) -> None:
    """Such as labels of what a version let pass: what is compared would not be alike."""
    traffic = begin(project, ledger, "2", 600, "--share", "0.3")
    traffic.log(lambda rng, challenger: challenger)
    traffic.label(lambda number, key: not traffic.tested.takes(key) or number % 4 == 0)
    done = call(project, "judge")
    expected = "is invalid: labels come for one version more often than for the other: keys by arm"
    assert (done.exit_code, expected in done.stdout) == (3, True)


def test_a_test_that_does_not_decide_ends_after_its_longest_duration(
    project: Project, ledger: Ledger
) -> None:
    tested = begin(project, ledger, "2", 1, "--days", "3").tested
    later = datetime.now(UTC) + timedelta(days=3)
    verdict = judge_test(project, ledger, tested, later)
    assert (verdict.action, verdict.reasons[0]) == (
        "expire", "not decided after 3 days: the champion stays",
    )  # fmt: skip
    call(project, "stop")


def test_a_better_shadow_is_promoted_with_what_was_seen(project: Project, ledger: Ledger) -> None:
    traffic = begin(project, ledger, "2", 400, "--shadow")
    traffic.log(lambda rng, challenger: rng.random() < (0.9 if challenger else 0.2))
    traffic.label()
    done = call(project, "judge")
    assert (done.exit_code, "the challenger is promoted: better: accuracy" in done.stdout) == (
        0,
        True,
    )
    assert ledger.champion().version == "2"
    ended = body_of(ledger.events("ab_ended")[-1], ABEnded)
    assert (ended.outcome, "from 400 and 400 units" in ended.reasons[0]) == ("promoted", True)
    _, deployment = ledger.deployments()[-1]
    assert deployment.why.startswith(f"A/B test {traffic.tested.test}: better")
