"""The end of a run that trained.

Its search is remembered, its logs and results lie beside the report.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.conclude_run.step import Findings, conclude_run, remember_search
from perennial.ledger.events import Ledger
from perennial.project import Project
from schemas import records as r
from tests.perennial.folders import make_project
from tests.perennial.report.facts import CHAMPION, STABILISATION, evaluation
from tests.perennial.report.training_facts import (
    FOUND,
    PRETRAINING,
    REUSED,
    SEARCHED,
    designs,
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "digits")


def left(folder: Path, record: r.FileRecord) -> Path:
    """A folder as a step leaves it, with its record."""
    record.write(folder)
    return folder


def trained(folder: Path, tuning: r.Tuning, **more: Path) -> Findings:
    """What the training of a run left, with TensorBoard's logs of one instance."""
    found = left(folder / "evaluation", evaluation(CHAMPION))
    (found / "logs" / "instance-2" / "train").mkdir(parents=True)
    (found / "logs" / "instance-2" / "train" / "events.out.tfevents.1").write_bytes(
        b"what was logged"
    )
    return Findings(
        stabilisation=left(folder / "weights", STABILISATION),
        tuning=left(folder / "tuning", tuning),
        evaluation=found,
        **more,
    )


def test_a_search_is_remembered_together_with_the_end(project: Project, tmp_path: Path) -> None:
    conclude_run(project, "r1", "kept_champion", trained(tmp_path, SEARCHED))
    ledger = Ledger(project.ledger_url)
    assert [event.kind for event in ledger.events()] == ["hyperparameters_tuned", "run_ended"]
    tuned = ledger.tuned()
    assert tuned is not None and (tuned.best, tuned.space, tuned.run) == (
        [FOUND],
        SEARCHED.space,
        "r1",
    )
    assert tuned.at == ledger.events()[0].at[:10] + tuned.at[10:] and tuned.at.endswith("+00:00")
    conclude_run(project, "r1", "kept_champion", Findings())
    assert len(ledger.events()) == 2


def test_a_search_that_is_cut_short_before_the_ledger_is_not_remembered(
    project, tmp_path, monkeypatch
) -> None:
    def cut_short(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", cut_short)
        with pytest.raises(KeyboardInterrupt):
            conclude_run(project, "r1", "promoted", trained(tmp_path, SEARCHED))
    assert Ledger(project.ledger_url).events() == []


@pytest.mark.parametrize(
    "outcome", ["promoted", "kept_champion", "failed", "data_rejected", "nothing_new"]
)
@pytest.mark.parametrize("tuning", [SEARCHED, REUSED, None], ids=["searched", "reused", "none"])
def test_only_a_search_of_a_run_that_came_to_a_decision_is_remembered(outcome, tuning) -> None:
    events = remember_search(outcome, tuning, "r1")
    remembered = tuning is SEARCHED and outcome in ("promoted", "kept_champion")
    assert [(event.kind, event.key) for event in events] == (
        [("hyperparameters_tuned", "tuned:r1")] if remembered else []
    )


def test_logs_and_results_lie_beside_the_report_that_links_them(
    project: Project, tmp_path: Path
) -> None:
    compared = left(tmp_path / "designs", designs())
    pretrained = left(tmp_path / "pretrained", PRETRAINING)
    found = trained(tmp_path, SEARCHED, designs=compared, pretraining=pretrained)
    ended = conclude_run(project, "r1", "kept_champion", found)
    report = project.folder / ended.report
    log = report.parent / "tensorboard" / "instance-2" / "train" / "events.out.tfevents.1"
    assert log.read_bytes() == b"what was logged"
    assert r.Tuning.read(report.parent) == SEARCHED
    assert r.DesignComparison.read(report.parent) == designs()
    page = report.read_text()
    for link in ("tensorboard/", "tuning.json", "designs.json"):
        assert f'href="{link}"' in page
    assert "perennial tensorboard PROJECT --run r1" in page and "Pretraining without labels" in page


def test_what_was_not_done_is_neither_published_nor_linked(
    project: Project, tmp_path: Path
) -> None:
    found = trained(tmp_path, REUSED)
    (found.evaluation / "logs").rename(tmp_path / "elsewhere")
    report = project.folder / conclude_run(project, "r1", "kept_champion", found).report
    assert {path.name for path in report.parent.iterdir()} == {"report.html", "warnings.json"}
    assert "tensorboard" not in report.read_text() and "tuning.json" not in report.read_text()


def test_the_step_that_failed_is_named_and_files_are_told_from_the_projects_folder(
    project: Project,
) -> None:
    reason = (
        f"checkpoint {project.state / 'checkpoints' / 'step-8.npz'} must be of the model that "
        "build_model builds now"
    )
    told = Findings(reasons=[reason], failed_step="train_model")
    page = (project.folder / conclude_run(project, "r1", "failed", told).report).read_text()
    assert "The run failed in train_model; no version serves yet." in page
    assert (
        "checkpoint .perennial/checkpoints/step-8.npz must be" in page
        and str(project.folder) not in page
    )


def test_files_are_told_from_a_folder_whose_name_html_escapes(tmp_path: Path) -> None:
    project = make_project(tmp_path / "R & D")
    told = Findings(reasons=[f"{project.folder / 'model.py'} must define build_model"])
    page = (project.folder / conclude_run(project, "r1", "failed", told).report).read_text()
    assert "<li>model.py must define build_model</li>" in page and "R &amp; D" not in page
