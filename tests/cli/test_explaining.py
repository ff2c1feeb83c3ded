"""`perennial explain` and `perennial compare`, on a ledger and a registry that real steps wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import PerennialError, RegistryError
from perennial.ledger.events import Ledger, NewEvent
from perennial.registry.deployments import roll_back
from perennial.registry.versions import Registry
from schemas.records import CovariateProbe, FeatureImportance, Probing, SpanJudged
from tests.perennial.folders import make_model, make_project
from tests.perennial.judged import WINDOW, end_run, judged, whole_run
from tests.perennial.records import span


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Version 1 pushed, 2 kept, 3 pushed without probes and rolled back, 4 foreign.

    Registered by nobody's run.
    """
    project = make_project(tmp_path_factory.mktemp("explained") / "digits")
    ledger = Ledger(project.ledger_url)
    released = SpanJudged(
        span=WINDOW[0], rows=300, reasons=["the label was checked"], by="user ada"
    )
    ledger.append(
        NewEvent(
            "span_quarantined",
            released.model_copy(update={"by": None, "reasons": ["no label"]}),
            "run-0",
        )
    )
    ledger.append(NewEvent("span_released", released))
    whole_run(project, "run-1", "a", accuracy=0.85)
    register_kept(project)
    whole_run(
        project,
        "run-3",
        "c",
        window=[*WINDOW[1:], span("2026-01-03", "c" * 64)],
        examples=210,
        stages=[],
    )
    roll_back(project, "answers look odd")
    Registry(project).register(make_model(project.folder.parent / "d", "d"))
    ledger.close()
    return project


def register_kept(project):
    ready = judged(project, "run-2", "b", promote=False, accuracy=0.82)
    probe = CovariateProbe(
        feature="scanner",
        probe="latent",
        value=0.9,
        chance=0.5,
        spread=0.1,
        p_value=0.01,
        flagged=True,
        unit="AUC",
    )
    probing = Probing(
        digest=ready.evaluation.digest,
        metric="accuracy",
        examples=200,
        covariates=[probe],
        importances=[FeatureImportance(feature="age", loss=0.2, low=0.1, high=0.3)],
        not_probed=["image: it is no number"],
    )
    version = replace(ready, probing=probing).register(project)
    end_run(project, ready.selection, version, promote=False)


def invoke(project, *arguments):
    name, *rest = arguments
    done = CliRunner().invoke(app, [name, str(project.folder), *rest])
    if done.exception is not None and isinstance(done.exception, PerennialError):
        raise done.exception
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_the_story_of_a_version_that_was_pushed(project):
    output = invoke(project, "explain", "1")
    for part in (
        "version 1 of digits and serves now",
        "2026-01-01 version 1  aaaaaaaaaaaa  300 rows  quarantined",
        "by run run-0 (no label), released",
        "by user ada (the label was checked)",
        "accepted",
        "checks that only warned stand in .perennial/runs/run-1/report.html",
        "commit c0ffee, attempt 1",
        "instance instance-2, features age, image",
        "  learning_rate 0.003",
        "  model.units 16",
        "200 test examples, against no champion",
        "candidate: accuracy 0.8500",
        "1 slice, none compared with a champion",
        "promote: it is judged",
        "passed: candidate's accuracy: accuracy is 0.9",
        "warning: group sex=1: a gap of 0.2",
        "serving check passed",
        "pushed by run run-1 (the gate promoted it), served for",
        "rolled back to by user",
        "(answers look odd), serves since then",
    ):
        assert part in output, part


def test_the_story_of_a_candidate_that_was_kept(project):
    output = invoke(project, "explain", "2")
    assert "keep the champion: it is judged" in output and "failed: against the champion" in output
    assert "against champion version 1" in output and "champion: accuracy 0.8000" in output
    assert "1 slice, the least gain on label=3: accuracy -0.0100 (20 examples)" in output
    assert (
        "probes for hidden covariates: 1, flagged: scanner" in output
        and "without age: accuracy loses 0.2000" in output
    )
    assert "not probed: image: it is no number" in output
    assert (
        "never deployed" in output and "no run pushed it" in output and "serves now" not in output
    )


def test_what_is_not_known_is_listed(project):
    output = invoke(project, "explain", "4")
    unknown = output[output.index("\nnot known\n") :]
    assert (
        "evaluation.json: not kept with this version" in unknown
        and "no decision of its run" in unknown
    )
    assert "the ledger holds no start of run-d" in unknown
    assert "attempt not known" in output and "never deployed" in output


def test_the_story_for_programs(project):
    answer = json.loads(invoke(project, "explain", "3", "--json"))
    assert (answer["version"], answer["run"], answer["lineage"]["attempt"]) == ("3", "run-3", "0")
    assert [each["name"] for each in answer["spans"]] == ["2026-01-02", "2026-01-03"]
    assert answer["parameters"]["seed"] == "2" and answer["metrics"]["test_accuracy"] == 0.9
    assert (
        answer["evaluation"]["champion"]["version"] == "1" and answer["decision"]["promote"] is True
    )
    assert [each["action"] for each in answer["deployments"]] == ["push"]
    assert answer["unknown"] == []


def test_probes_that_nobody_asked_for_are_not_missing(project):
    assert "not asked for (evaluate.covariates, evaluate.explain)" in invoke(
        project, "explain", "3"
    )
    assert "probing.json: not kept with this version" in invoke(project, "explain", "1")


@pytest.mark.parametrize(
    "arguments", [("explain", "9"), ("compare", "1", "9"), ("compare", "9", "1")]
)
def test_unknown_versions_name_the_known(project, arguments):
    with pytest.raises(
        RegistryError, match=r"version 9 of digits must be in the .*it has 1, 2, 3, 4\."
    ):
        invoke(project, *arguments)


def test_compared_with_what_it_was_judged_against(project):
    output = invoke(project, "compare", "1", "2")
    assert "both: 2026-01-01@1, 2026-01-02@1" in output and "only version 1: none" in output
    assert (
        "test_accuracy: 0.8500 | 0.8200" in output
        and "both were measured on the same test examples" in output
    )
    assert "version 2 minus version 1; positive: 2 is better" in output
    assert "digit accuracy: +0.0200, 95% interval -0.0300 to +0.0700 (200 examples)" in output
    assert "version 2 minus version 1" in invoke(
        project, "compare", "2", "1"
    )  # whichever comes first


def test_compared_on_different_examples(project):
    output = invoke(project, "compare", "2", "3")
    assert "only version 2: 2026-01-01@1" in output and "only version 3: 2026-01-03@1" in output
    counts = (
        "different test examples: version 2 on 200 of 2026-01-01 to 2026-01-02, version 3 on 210 "
        "of 2026-01-02 to"
    )
    assert counts in output and "need not be one of the models" in output
    assert "versions 2 and 3 were never judged against each other" in output


def test_compared_where_nothing_is_known(project):
    output = invoke(project, "compare", "1", "4")
    assert "it is not known whether both were measured on the same test examples" in output
    assert "test_accuracy: 0.8500 | 0.9000" in output and "learning_rate: 0.003 | none" in output


def test_the_comparison_for_programs(project):
    answer = json.loads(invoke(project, "compare", "1", "3", "--json"))
    assert [each["version"] for each in answer["versions"]] == ["1", "3"]
    assert answer["same_examples"] is False
    assert (answer["direct"]["candidate"], answer["direct"]["champion"]) == ("3", "1")
    assert answer["direct"]["differences"][0]["value"] == pytest.approx(0.1)
    assert json.loads(invoke(project, "compare", "2", "3", "--json"))["direct"] is None


def test_a_project_without_a_registry_gets_one_line(tmp_path):
    project = make_project(tmp_path / "digits")
    command = Path(sys.executable).with_name("perennial")
    done = subprocess.run(
        [command, "explain", project.folder, "1"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: version 1 of digits must be in the registry. Received: ")


def test_the_real_commands_without_tensorflow(project):
    code = (
        "import sys; from perennial.cli.main import main\ntry: main()\n"
        "finally: print({'tensorflow', 'tensorflow_transform', 'apache_beam'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", str(project.folder), "1"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("version 1 of digits") and done.stdout.endswith("set()\n")
    command = Path(sys.executable).with_name("perennial")
    refused = subprocess.run(
        [command, "compare", project.folder, "1", "9"], check=False, capture_output=True, text=True
    )
    assert refused.returncode == 1 and refused.stderr.startswith(
        "error: version 9 of digits must be in the registry"
    )
