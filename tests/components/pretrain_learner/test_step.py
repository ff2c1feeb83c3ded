"""Pretraining on real digits and taxi trips.

Something is learnt, it goes on, and bad unlabelled files stop nothing.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from perennial.data.examples import split_of
from perennial.training.artifacts import WEIGHTS_FILE
from schemas.records import Pretraining
from tests.chain import copy_project, landing, with_settings
from tests.components.pretrain_learner.jobs import (
    pretrain_clipped,
    pretrain_digits,
    pretrain_taxi,
    read_unlabelled,
)
from tests.components.pretrain_learner.taxi import make_taxi, trips
from tests.forked import forked
from tests.perennial.folders import TAXI
from tests.perennial.training.jobs import DROPOUT, changed

PATTERN = "new/{YYYY}-{MM}-{DD}.*"
GUESSING = math.log(4)


@pytest.fixture(scope="module")
def digits(chain, tmp_path_factory):
    """Pretrainings on two labelled days and four days without labels."""
    folder = tmp_path_factory.mktemp("pretrained")
    project = copy_project(chain, folder / "digits")
    (project.folder / "new").mkdir()
    for day in (3, 4, 5, 6):
        table = landing(project).digits_of_day(day).drop_columns(["label", "id"])
        pq.write_table(table, project.folder / "new" / f"2026-01-0{day}.parquet")
    project = with_settings(project, "data", unlabelled=PATTERN)
    return project, forked(pretrain_digits, project, chain.features, folder)


def test_turns_of_images_are_learnt(digits):
    record = digits[1]["rotation"].record
    assert record.task == "rotation" and record.notes == []
    assert len(record.losses) == len(record.held_out_losses) == 6
    assert record.losses[-1] < record.losses[0] and min(record.held_out_losses) < 0.6 * GUESSING


def test_masked_patches_are_learnt(digits):
    losses = digits[1]["masked_image"].record.held_out_losses
    assert min(losses) < 0.6 and min(losses) < 0.9 * losses[0]  # 1: who guesses


def test_all_landed_images_are_learnt_from_but_not_the_judged_ones(digits, chain):
    record, project = digits[1]["rotation"].record, chain.project
    keys = [key for day in (1, 2) for key in landing(project).digits_of_day(day)["id"].to_pylist()]
    train = sum(split_of(key, project.settings.data.splits) == "train" for key in keys)
    unlabelled = sum(landing(project).digits_of_day(day).num_rows for day in (3, 4, 5, 6))
    assert (record.unlabelled, record.examples) == (unlabelled, train + unlabelled)


def test_same_seed_gives_the_same_weights(digits):
    first, again = digits[1]["rotation"], digits[1]["again"]
    assert first.record == again.record
    assert all((first.weights[path] == again.weights[path]).all() for path in first.paths)


def test_learner_goes_on_and_its_head_does_not(digits):
    for name in ("rotation", "masked_image"):
        found = digits[1][name]
        assert (
            found.loaded == found.paths and len(found.paths) == 6
        )  # two convolutions and a dense layer
        assert set(found.left) == {"dense_1/kernel", "dense_1/bias"} and set(
            found.left.values()
        ) == {"not there"}
        assert found.record.parameters == sum(weights.size for weights in found.weights.values())
        assert found.files == {Pretraining.FILE, WEIGHTS_FILE}
    assert digits[1]["stabilised"].pretrained == 6


def test_clipping_is_of_the_gradient_of_all_replicas(chain, project, tmp_path):
    project = changed(project, *DROPOUT)  # its random numbers differ between replicas
    one, two = (
        forked(pretrain_clipped, project, chain.features, tmp_path / str(n), n) for n in (1, 2)
    )
    assert one.losses == pytest.approx(two.losses, rel=1e-4)
    assert one.held_out_losses == pytest.approx(two.held_out_losses, rel=1e-4)


def unlabelled(project, pattern):
    return with_settings(
        with_settings(project, "data", unlabelled=pattern), "pretext", task="rotation"
    )


def test_rows_that_cannot_be_used_are_told_and_stop_nothing(chain, project):
    folder = project.folder / "new"
    folder.mkdir()
    rows = landing(project).digits_of_day(7).to_pylist()
    splits = [split_of(row["id"], project.settings.data.splits) for row in rows]
    for row in rows:
        row["label"] = "nobody knows"
    rows[0] |= {"id": None, "image": rows[0]["image"][:60]}
    rows[1] |= {"id": None, "image": ["ink", *rows[1]["image"][1:]]}
    lines = [json.dumps(row) for row in rows]
    lines[2] = '{"image": [1, 2'
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "b.csv").write_text("date\n2026-01-07\n")
    (folder / "c.parquet").write_text("cut off")
    found, notes = forked(read_unlabelled, unlabelled(project, "new/*"), chain.features)

    assert len(found) == splits[3:].count("train") and all(set(row) == {"pixels"} for row in found)
    pixels, image = found[0]["pixels"], rows[3 + splits[3:].index("train")]["image"]
    assert np.corrcoef(pixels, image)[0, 1] == pytest.approx(1, abs=1e-5)  # scaled as in training
    broken, refused, elsewhere = notes
    assert broken.startswith("new/c.parquet must be a whole Parquet file.")
    assert refused.startswith(f"4 of {len(rows) + 1:,} unlabelled rows could not be used: ")
    assert "new/a.jsonl: line 2: `image` must be a number. Received: 'ink'" in refused
    assert "new/a.jsonl: line 3: the line must be JSON" in refused
    assert (
        "new/a.jsonl: line 1: it must have what preprocessing_fn reads. Received: Key: image"
        in refused
    )
    assert elsewhere.startswith(
        f"{len(rows) - 3 - len(found)} of {len(rows) + 1:,} unlabelled rows were left out, as"
    )


@pytest.mark.parametrize(
    "pattern, note",
    [
        (None, "project.yaml sets no data.unlabelled: only the train split was learnt from"),
        (
            "new/{SPAN}.csv",
            "no file matches new/{SPAN}.csv (data.unlabelled): only the train split was learnt "
            "from",
        ),
        ("s4://bucket/*.csv", "s4://bucket/*.csv must be on a file system that fsspec knows."),
    ],
)
def test_no_unlabelled_files_are_a_note(chain, project, pattern, note):
    found, notes = forked(read_unlabelled, unlabelled(project, pattern), chain.features)
    assert found == [] and len(notes) == 1 and notes[0].startswith(note)


@pytest.fixture(scope="module")
def taxi(tmp_path_factory):
    if not TAXI.is_file():
        pytest.skip(f"the taxi trips are not there: {TAXI}")
    folder = tmp_path_factory.mktemp("taxi")
    rows = trips(TAXI, 4000)
    bare = [
        {name: value for name, value in row.items() if name not in ("id", "tipped")}
        for row in rows[2500:]
    ]
    project = make_taxi(folder / "project")
    return forked(pretrain_taxi, project, rows[:2500], bare, folder)


@pytest.mark.parametrize("task", ["masked_features", "masked_words"])
def test_masked_columns_and_words_of_real_trips_are_learnt(taxi, task):
    found, chances = taxi
    record = found[task].record
    assert record.notes == [] and record.unlabelled == 1500
    assert (
        min(record.held_out_losses) < 0.8 * chances[task]
        and record.held_out_losses[-1] < record.held_out_losses[0]
    )
    assert found[task].loaded == found[task].paths and set(found[task].left) == {
        "tipped/kernel",
        "tipped/bias",
    }
