"""From a trained candidate through its probes to the gate, by the steps as they are run.

Nothing here makes a record by hand: what the gate reads is what `probe_model` writes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.project import load_project
from schemas.records import Decision, Probing
from tests.forked import forked, import_wrapper
from tests.leaking import Leaking
from tests.stored import FileArtifact, publish, stage

SUSPECTS = ["account_no", "scanner", "site", "shift"]
LEAK = "`account_no` alone gives the label of all 100 examples away"


@dataclass(frozen=True)
class Judged:
    """What came of one project: the gate's answer, and what it was given and wrote."""

    answer: str
    probing: Probing
    decision: Decision

    @property
    def told(self) -> str:
        """Why it was decided so, and what only warns."""
        warnings = [f"warning: {each.explanation}" for each in self.decision.warnings]
        return " | ".join([*self.decision.reasons, *warnings])


def judge(leaking: Leaking, folder: Path, cases: dict[str, tuple[list[str], str]]) -> Any:
    """The wrappers of `probe_model` and `decide_promotion`, for each case's settings."""
    probe_model, decide_promotion = map(import_wrapper, ("probe_model", "decide_promotion"))
    judged = {}
    for name, (suspects, covariates) in cases.items():
        shutil.copytree(leaking.project.folder, folder / name, ignore=lambda *_: [".perennial"])
        file = folder / name / "project.yaml"
        settings = yaml.safe_load(file.read_text())
        settings["evaluate"] |= {
            "covariates": {"features": suspects},
            "explain": {"examples": 100, "repeats": 2, "steps": 8, "single": 1},
        }
        settings["gate"]["covariates"] = covariates
        file.write_text(yaml.safe_dump(settings))
        project = load_project(folder / name)
        window, evaluation, model = (
            publish(project, path)
            for path in (leaking.window, leaking.evaluation, leaking.candidate)
        )
        probing, decision = (
            FileArtifact(project.folder / output) for output in ("probing", "decision")
        )
        probe_model.python_func(
            str(project.folder),
            project.digest_of("probe_model"),
            window,
            evaluation,
            model,
            probing,
        )
        answer = decide_promotion.python_func(
            str(project.folder),
            project.digest_of("decide_promotion"),
            evaluation,
            decision,
            probing,
        )
        probed = Probing.read(stage(project, probing, folder / f"{name} probing"))
        decided = Decision.read(stage(project, decision, folder / f"{name} decision"))
        judged[name] = Judged(answer, probed, decided)
    return judged


@pytest.fixture(scope="module")
def judged(leaking, tmp_path_factory) -> dict[str, Judged]:
    cases = {
        "nothing named": ([], "block"),
        "warned": (SUSPECTS, "warn"),
        "blocked": (SUSPECTS, "block"),
        "read": (["account_no"], "block"),
        "unread": (["scanner"], "block"),
        "one thing": (["site"], "block"),
        "innocent": (["shift"], "block"),
    }
    return forked(judge, leaking, tmp_path_factory.mktemp("judged"), cases)


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("nothing named", "promote"),
        ("warned", "promote"),
        ("blocked", "keep"),
        ("read", "keep"),
        ("unread", "keep"),
        ("one thing", "keep"),
        ("innocent", "promote"),
    ],
)
def test_a_learned_suspect_blocks_where_it_is_to_block(judged, case, answer):
    assert judged[case].answer == answer


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("read", "the answers rest on the suspect feature `account_no` (permute and invert)"),
        ("unread", "the latent vector tells the suspect feature `scanner`, which the model does"),
        (
            "one thing",
            "not compared: the suspect feature `site`: the model does not read it, and it cannot "
            "be told from the label",
        ),
    ],
)
def test_the_reason_names_the_suspect_and_what_is_known_of_it(judged, case, reason):
    assert reason in judged[case].told
    assert f"warning: {LEAK}" in judged[case].told  # which no setting asked for


def test_what_only_warns_is_told_all_the_same(judged):
    for reason in ("`account_no` (permute", "suspect feature `scanner`", "suspect feature `site`"):
        assert reason in judged["warned"].told
    assert not any("suspect" in reason for reason in judged["warned"].decision.reasons)


def test_an_unread_suspect_that_is_innocent_is_not_told_as_one_that_the_answers_rest_on(judged):
    (criterion,) = [c for c in judged["innocent"].decision.criteria if c.kind == "covariate"]
    assert criterion.passed and criterion.explanation == (
        "the model does not read `shift`, and its latent vector tells no more of it than chance"
    )


def test_which_features_are_read_is_in_the_graph_not_in_the_schema(judged):
    suspects = {suspect.name: suspect for suspect in judged["blocked"].probing.suspects}
    assert [name for name in SUSPECTS if suspects[name].is_read] == ["account_no"]
    assert [name for name in SUSPECTS if suspects[name].not_compared] == ["site"]


def test_a_feature_that_the_model_does_not_read_gives_no_label_away(judged):
    """The label follows from `site` as well, but no answer rests on it."""
    assert [leak.name for leak in judged["nothing named"].probing.leaks] == ["account_no"]
    assert judged["nothing named"].decision.promote and LEAK in judged["nothing named"].told
