"""The stages of training in whole runs: pretext, stabilise, tune, compare designs, train, patch.

Told in the report.
"""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.conclude_run.step import run_folder
from perennial.registry.versions import Registry
from perennial.step_inputs import PREPARATION, STEP_INPUTS
from tests.chain import landing
from tests.e2e.conftest import make_again, make_digits
from tests.e2e.test_loop import AGAIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEPT = {*STEP_INPUTS, "prepare_span"} - {*PREPARATION}  # steps that can be run again
MODEL = '''
from perennial import blocks


def build_model(transform_output, hp):
    """A learner of a width that is searched. Input: `pixels` float32 [batch, 64]. Output: `prediction` and `latent`."""
    return mlp(hp.Choice("width", [16, 48], default=48), 1)


def design_spaces():
    """Shallow and deep learners of many widths."""
    return {
        "shallow": lambda graph, hp: mlp(hp.Int("width", 8, 64), 1),
        "narrow": lambda graph, hp: mlp(hp.Int("width", 2, 3), 1),
    }


def mlp(width, layers):
    pixels = keras.Input((SIDE * SIDE,), name="pixels")
    latent = pixels
    for number in range(layers):
        latent = keras.layers.Dense(width, activation="relu", name=f"dense{number}")(latent)
    scores = keras.layers.Dense(CLASSES, activation="softmax", name="scores")(latent)
    return keras.Model({"pixels": pixels}, {"prediction": scores, "latent": latent})
'''
SETTINGS = {
    "data": {"unlabelled": "unlabelled/*.parquet"},
    "pretext": {"task": "rotation", "feature": "pixels", "epochs": 2},
    "tune": {"trials": 2, "epochs": 1, "learning_rate": [0.001, 0.02]},
    "designs": {"compare": True, "samples": 5, "epochs": 1},
    "patch": {"instances": 1},
    "train": {"epochs": 20, "instances": 2},
    "gate": {"floors": {"accuracy": 0.4}},
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A project with every stage, and a file of images that nobody labelled."""
    digits = make_digits(tmp_path_factory.mktemp("training") / "digits", **SETTINGS)
    module = digits.project.module_path
    module.write_text(module.read_text().split("def build_model")[0] + MODEL)
    (digits.folder / "unlabelled").mkdir()
    images = landing(digits.project).digits_of_day(9).select(["image"])
    pq.write_table(pa.table(images), digits.folder / "unlabelled" / "new.parquet")
    digits.land("--days", "1")
    return digits


@pytest.fixture(scope="module")
def first(digits):
    return digits.run()


@pytest.fixture(scope="module")
def second(digits, first):
    digits.land("--days", "2")
    return digits.run()


def _report(digits, result):
    return (digits.folder / result.ended.report).read_text()


def test_a_run_with_every_stage_promotes(digits, first):
    assert first.ended.outcome == "promoted", first.ended.reasons
    tuned = digits.ledger.tuned()
    assert len(tuned.best) == 1 and {"width"} == set(tuned.best[0].model)
    report = _report(digits, first)
    for told in ("shallow", "narrow", "quarter turns", "instance-1", "instance-2", "width"):
        assert told in report, told


@pytest.mark.parametrize("step", sorted(KEPT - {step for step, *_ in AGAIN}))
def test_each_of_its_steps_makes_the_same_again(digits, first, step, tmp_path):
    make_again(digits, digits.ledger.runs()[0][1].selection.run, (step,), tmp_path)


def test_its_curves_can_be_looked_at_with_tensorboard(digits, first):
    folder = run_folder(digits.project, digits.ledger.runs()[0][1].selection.run) / "tensorboard"
    assert {path.name for path in folder.iterdir()} == {"instance-1", "instance-2"}
    assert all(any(instance.rglob("events.out.tfevents.*")) for instance in folder.iterdir())
    assert "perennial tensorboard" in _report(digits, first)


def test_the_next_run_uses_what_was_found_and_patches_the_champion(digits, first, second):
    before, after = (selection.selection for _, selection, _ in digits.ledger.runs())
    assert before.tuned is None and after.tuned == digits.ledger.tuned()
    assert [i.name for i in after.instances] == ["instance-1", "instance-2", "patched-1"]
    report = _report(digits, second)
    assert "patched-1" in report and "Hyperparameters: of an earlier search" in report
    assert "could not be patched" not in report


def test_the_registry_tells_what_the_version_was_trained_with(digits, first):
    import mlflow

    registry = Registry(digits.project)
    version = registry.version(first.ended.version)
    mlflow.set_tracking_uri(
        digits.project.settings.registry.uri or f"sqlite:///{digits.project.state / 'registry.db'}"
    )
    parameters = mlflow.get_run(version.mlflow_run).data.params
    assert parameters["start"] == "cold" and int(parameters["model.width"]) in (16, 48)


def test_a_person_can_ask_for_a_new_search(digits, second):
    searched = digits.ledger.tuned()
    done = digits.command("run", "--tune", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["outcome"] in ("promoted", "kept_champion")
    assert digits.ledger.tuned() != searched
    assert re.search("(?i)a person asked for it", _newest_report(digits))


def _newest_report(digits):
    _, _, end = digits.ledger.runs()[-1]
    return (digits.folder / end.body.report).read_text()
