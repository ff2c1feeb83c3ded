"""The project of the pairs: two models whose every answer is known, and the rows that land.

The columns `old` and `new` hold the answers of two models, as logits, and `tag` gives a part of the
label away. So what a run decides does not hang on what training makes of a seed: the rows say where
which model is right.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = """\
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature {
  name: "label" type: INT presence { min_fraction: 1 } shape {} int_domain { min: 0 max: 1 }
  not_in_environment: "SERVING"
}
feature { name: "old" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "new" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "tag" type: FLOAT presence { min_fraction: 1 } shape {} }
feature {
  name: "age" type: FLOAT presence { min_fraction: 1 } shape {} float_domain { min: 0 max: 100 }
}
feature { name: "site" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "camera" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "shift" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "ward" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "clinic" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "patient" type: BYTES presence { min_fraction: 1 } shape {} }
default_environment: "TRAINING"
default_environment: "SERVING"
"""

_MODULE = '''\
import keras

GIVEN = {given}
LEARNED = {learned}
OFFSET = {offset}


def preprocessing_fn(inputs):
    return {{name: inputs[name] for name in ("old", "new", "tag")}}


def build_model(transform_output, hp):
    """The sum of logits that are given, of one that is learned, and of a constant."""
    inputs = {{name: keras.Input((1,), name=name) for name in ("old", "new", "tag")}}
    width = hp.Choice("width", [2, 4], default=4)
    latent = keras.layers.Concatenate()(list(inputs.values()))
    latent = keras.layers.Dense(width, activation="tanh", name="latent")(latent)
    logit = keras.layers.Rescaling(LEARNED, OFFSET)(keras.layers.Dense(1)(latent))
    for name, factor in GIVEN.items():
        logit = keras.layers.Add()([logit, keras.layers.Rescaling(factor)(inputs[name])])
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(logit))
'''
# The answers are the column `old`; they are `new`, moved by `tag`; they are always 0; and they
# are learned.
OLD = _MODULE.format(given={"old": 1.0}, learned=1e-6, offset=0.0)
NEW = _MODULE.format(given={"new": 1.0, "tag": 0.5}, learned=1e-6, offset=0.0)
CONSTANT = _MODULE.format(given={}, learned=1e-6, offset=-3.0)
LEARNED = _MODULE.format(given={}, learned=1.0, offset=0.0)

# What lands: rows, rows that fail every check, what is no table, and rows of a day to come.
GOOD, BAD, UNREADABLE, FUTURE = "2026-01-01", "2026-01-02", "2026-01-03", "2999-01-01"

SETTINGS: dict[str, Any] = {
    "name": "pairs",
    "label": "label",
    "data.spans": "data/{YYYY}-{MM}-{DD}.csv",
    "data.key": "id",
    "data.serving_log": "requests/south.csv",
    "data.splits": {"train": 0.2, "eval": 0.2, "test": 0.6},
    "model.tasks": [{"kind": "binary"}],
    "stabilise": {"draws": 1, "steps": 2},
    "train.instances": 1,
    "train.epochs": 1,
    "train.batch_size": 256,
    # Explanations cost seconds, and most pairs are not about them.
    "evaluate.explain.examples": 0,
}

EXPECTATIONS = [
    {"type": "expect_column_max_to_be_between", "kwargs": {"column": "age", "max_value": 100}}
]


def write_project(folder: Path) -> None:
    """Writes the project, what lands in it and the requests that it served."""
    folder.mkdir(parents=True)
    (folder / "schema.pbtxt").write_text(SCHEMA)
    (folder / "expectations.json").write_text(json.dumps({"expectations": EXPECTATIONS}))
    rows, landed = make_rows(1800), folder / "landed"
    _write_rows(landed / f"{GOOD}.csv", rows)
    _write_rows(landed / f"{BAD}.csv", [_spoil(i, row) for i, row in enumerate(rows[:400])])
    (landed / f"{UNREADABLE}.csv").write_bytes(b"\xff\xfe\x00no table")
    _write_rows(landed / f"{FUTURE}.csv", [{**row, "id": f"new {row['id']}"} for row in rows])
    for site in ("north", "south"):
        served = [row for row in rows if row["site"] == site] * 2
        others = [row for row in rows if row["site"] != site][:150]
        requests = [
            {name: value for name, value in row.items() if name not in ("id", "label")}
            for row in served + others
        ]
        _write_rows(folder / "requests" / f"{site}.csv", requests)


def make_rows(count: int) -> list[dict[str, Any]]:
    """Makes rows of which the two models' answers are right as often as the shares below say."""
    random = np.random.default_rng(1)

    def choose(names: Sequence[str], shares: Sequence[float] | None = None) -> Any:
        return random.choice(names, count, p=shares)

    label = random.random(count) < 0.5
    site = choose(["north", "south"], [1 / 3, 2 / 3])
    camera, shift = choose(["a", "b"]), choose(["day", "night"])
    ward = choose(["main", "tiny"], [0.97, 0.03])
    clinic = choose(["first", "second", "third"], [0.46, 0.46, 0.08])
    # `new` is the better one, but loses in the north, with camera a by day, and in the tiny ward;
    # and it does less for the third clinic.
    by_day = (camera == "a") & (shift == "day")
    new = np.where(site == "south", np.where(by_day, 0.55, 0.99), np.where(by_day, 0.1, 0.4))
    new = np.where(clinic == "third", 0.55, new)
    new_right = random.random(count) < np.where(ward == "tiny", 0.0, new)
    old_right = random.random(count) < np.where(ward == "tiny", 1.0, 0.55)
    tag_right = random.random(count) < 0.8
    # What `new` gains, it mostly gains on two of ten patients.
    number = random.integers(0, 10, count)
    gained = new_right & ~old_right & (random.random(count) < 0.5)
    patient = np.where(gained, number % 2, number)
    truth = np.where(label, 1.0, -1.0)
    columns = {
        "label": label.astype(int),
        "old": truth * np.where(old_right, 1.0, -1.0),
        "new": truth * np.where(new_right, 3.0, -3.0),
        "tag": truth * np.where(tag_right, 1.0, -1.0),
        "age": 20 + number,
        "site": site,
        "camera": camera,
        "shift": shift,
        "ward": ward,
        "clinic": clinic,
        "patient": [f"patient {number}" for number in patient],
    }
    return [
        {"id": f"row {i}", **{name: values[i] for name, values in columns.items()}}
        for i in range(count)
    ]


def _spoil(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Makes a row of a span that fails every check, and on which the champion is wrong.

    Every tenth row lacks its label and most others are of class 1, to which `old` mostly says 0; an
    eighth has the key of an older row; one age cannot be; most rows are of camera a; and there is a
    column too many.
    """
    return {
        **row,
        "id": row["id"] if number % 8 == 1 else f"later {row['id']}",
        "label": "" if number % 10 == 0 else 1 if number % 5 else row["label"],
        "old": row["old"] if number % 3 == 0 else -1.0,
        "age": 150 if number == 2 else row["age"],
        "camera": "a" if number % 5 < 3 else row["camera"],
        "more": "a column that the schema does not know",
    }


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
