"""Rows of the prediction log."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from perennial.errors import ProjectError
from perennial.production.masked_features import check_masked_features
from perennial.production.prediction_log import (
    Masks,
    is_sampled,
    make_table,
    make_tables,
)
from perennial.project import load_project
from schemas.prediction_log import COLUMNS
from tests.perennial.folders import make_project
from tests.perennial.production.rows import CITY, NOON, answer

PLAIN = Masks("id")


def test_a_row_holds_an_instance_as_one_arm_answered_it() -> None:
    shadow = answer("r2", ["k3"], arm="shadow", chance=0.5)
    table = make_table([answer("r1", ["k1", None]), shadow], PLAIN)
    assert table.column_names[: len(COLUMNS)] == list(COLUMNS)
    first, second, third = table.to_pylist()
    assert (first["request_id"], first["instance"], first["key"]) == ("r1", 0, "k1")
    assert (second["instance"], second["key"]) == (1, None)
    assert first["time"] == NOON
    assert first["feature:image"] == [0, 1, 2, 3]
    assert (first["feature:city"], second["feature:city"]) == ("Turin", "\\xffyyd")
    assert (third["arm"], third["assigned"], third["version"]) == ("shadow", "champion", "2")
    assert (third["test"], third["chance"], first["test"]) == (7, 0.5, None)
    assert third["output:probabilities"] == pytest.approx([1 / 3] * 3)


def test_values_of_another_form_keep_their_columns() -> None:
    longer = answer("r2", ["k2"])
    features = {**longer.features, "image": np.zeros((1, 3, 1), np.float32)}
    table = make_table([answer("r1", ["k1"]), replace(longer, features=features)], PLAIN)
    assert table["feature:image"].to_pylist() == [[0, 1, 2, 3], [0, 0, 0]]
    partial = replace(longer, outputs={"class": longer.outputs["class"]})
    table = make_table([answer("r1", ["k1"]), partial], PLAIN)
    assert table["output:probabilities"].to_pylist()[1] is None


def test_rows_lie_with_their_day_and_contract() -> None:
    tomorrow = answer("r2", ["k"], NOON + timedelta(hours=12))
    other = answer("r3", ["k"], contract="d" * 64)
    tables = make_tables([answer("r1", ["k"]), tomorrow, other], PLAIN)
    assert [(day.day, table.num_rows) for day, table in tables] == [(31, 1), (31, 1), (1, 1)]


def test_masked_features_are_not_logged_as_they_are() -> None:
    masks = Masks("id", frozenset({"image"}), frozenset({CITY, "id"}), b"pepper")
    row = make_table([answer("r1", ["k1"])], masks).to_pylist()[0]
    assert "feature:image" not in row
    assert row["feature:city"] == hmac.new(b"pepper", b"Turin", hashlib.sha256).hexdigest()
    assert row["key"] == masks.key_as_logged("k1") != "k1"


def test_all_arms_of_a_request_are_sampled_alike() -> None:
    sampled = [is_sampled(f"request {number}", NOON, 0.3) for number in range(10_000)]
    assert np.mean(sampled) == pytest.approx(0.3, abs=0.02)
    assert is_sampled("r", NOON, 0.3) == is_sampled("r", NOON, 0.3)
    assert all(is_sampled(f"request {number}", NOON, 1.0) for number in range(10))


def test_what_is_to_be_masked_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = {"enabled": True, "hashed": ["imge"], "secret": "PEPPER"}
    project = make_project(tmp_path / "digits", serving={"log": log})
    with pytest.raises(ProjectError, match="Did you mean `image`"):
        check_masked_features(project, ["image", "label"])
    with pytest.raises(ProjectError, match="environment variable PEPPER"):
        Masks.of_project(project)
    monkeypatch.setenv("PEPPER", "x")
    assert Masks.of_project(load_project(project.folder)).secret == b"x"
    keyless = make_project(tmp_path / "third", serving={"log": {"dropped": ["id"]}})
    with pytest.raises(ProjectError, match="must not name data"):
        check_masked_features(keyless, ["id"])
