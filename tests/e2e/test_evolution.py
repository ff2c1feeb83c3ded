"""Every change of what lands, walked through the commands to a model that serves.

The tests follow each other; each lands a day that is not as schema.pbtxt says.
"""

import csv
import random
from pathlib import Path

import pytest
import yaml

from perennial.ledger.events import Ledger
from perennial.project import load_project

from .conftest import Digits

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

SETTINGS = {
    "name": "fares",
    "label": "label",
    "data": {"spans": "data/{YYYY}-{MM}-{DD}.csv", "key": "id"},
    "model": {"tasks": [{"kind": "binary"}]},
    "stabilise": {"draws": 1, "steps": 2},
    "train": {"instances": 1, "epochs": 1, "batch_size": 32},
    "gate": {"mode": "not_worse", "margin": 0.9, "floors": {}, "trivial": "warn"},
    "checks": {"drift": "warn"},
}
MODEL = """\
import keras
import tensorflow as tf

NUMBERS = ["fare", "miles"]


def preprocessing_fn(inputs):
    numbers = [tf.cast(inputs[name], tf.float32) / 50.0 for name in NUMBERS]
    return {"numbers": tf.stack(numbers, axis=1), "label": inputs["label"]}


def build_model(transform_output):
    numbers = keras.Input((len(NUMBERS),), name="numbers")
    answer = keras.layers.Dense(1, activation="sigmoid")(numbers)
    return keras.Model({"numbers": numbers}, answer)
"""


@pytest.fixture(scope="module")
def fares(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fares")
    (folder / "project.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "model.py").write_text(MODEL)
    (folder / "expectations.json").write_text('{"expectations": []}')
    project = Digits(folder)
    land(project, 1)
    inferred = project.command_of("schema", "infer")
    assert inferred.returncode == 0, inferred.stderr
    assert project.run().ended.outcome == "promoted"
    return project


def land(project, day: int, without=(), **columns) -> None:
    """Lands a day of rides; `columns` are made of the number of the row."""
    draw = random.Random(day)
    path = Path(project.folder) / "data" / f"2026-01-{day:02}.csv"
    path.parent.mkdir(exist_ok=True)
    rows = []
    for number in range(120):
        fare = draw.uniform(1, 50)
        row = {"id": f"{day}-{number}", "fare": round(fare, 2), "miles": draw.randrange(1, 30)}
        row |= {name: make(number) for name, make in columns.items()}
        row["label"] = int(fare + draw.gauss(0, 5) > 25)
        rows.append({name: value for name, value in row.items() if name not in without})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def reads(project, *names: str) -> None:
    """Makes the model read other columns."""
    path = project.folder / "model.py"
    lines = path.read_text().splitlines()
    changed = [f"NUMBERS = {list(names)}" if line.startswith("NUMBERS") else line for line in lines]
    path.write_text("\n".join(changed) + "\n")


def walk(project, *choices: str) -> str:
    """From a day that waits to a model that serves; gives what `schema diff` said."""
    assert project.run().ended.outcome == "data_rejected"
    day = sorted((project.folder / "data").iterdir())[-1].stem
    why = ("--why", "it is so now")
    done = [
        project.command_of("schema", "diff", *choices),
        project.command_of("schema", "accept", *why),
        project.command_of("spans", "judge", day, *why),
    ]
    assert [command.returncode for command in done] == [0, 0, 0], [each.stderr for each in done]
    assert f"next: `perennial spans judge {project.folder} {day} --why" in done[1].stdout
    return done[0].stdout


def trained_on(project) -> list[str]:
    """Runs to a model that serves; gives the window.

    A champion that cannot read what lands now is not compared: a person promotes the candidate.
    """
    ended = project.run().ended
    if ended.outcome != "promoted":
        (reason,) = (reason for reason in ended.reasons if "could not be evaluated" in reason)
        assert "`perennial promote PROJECT VERSION` makes this candidate the champion" in reason
        done = project.command("promote", ended.version, "--why", "the champion cannot read it")
        assert done.returncode == 0, done.stderr
    assert project.ledger.champion().version == ended.version
    return ended.window


def days(*numbers: int) -> list[str]:
    return [f"2026-01-{number:02}" for number in numbers]


def test_a_new_column_is_optional(fares):
    land(fares, 2, visits=lambda number: number % 7)
    assert "`visits` is optional, as spans before this one do not have it" in walk(fares)
    assert trained_on(fares) == days(1, 2)


def test_rows_of_a_span_that_has_left_the_window_wait_under_another_name(fares):
    """In another order and in another format; the file that they came in first is gone, too."""
    first = fares.folder / "data" / "2026-01-01.csv"
    kept, settings = fares.folder / "gone.csv", (fares.folder / "project.yaml").read_text()
    header, *rows = first.read_text().splitlines()
    copy = first.with_name("2026-01-20.csv")
    copy.write_text("\n".join([header, *reversed(rows)]).replace(",", ";") + "\n")
    changed = yaml.safe_load(settings)
    changed["data"] |= {"window": 1, "delimiter": ";"}
    try:
        first.rename(kept)
        (fares.folder / "project.yaml").write_text(yaml.safe_dump(changed))
        ended = fares.run().ended
    finally:
        kept.rename(first)
        (fares.folder / "project.yaml").write_text(settings)
        copy.unlink()
    assert ended.outcome == "data_rejected"
    assert ended.reasons[0].startswith(
        "span 2026-01-20 was refused: id: expected rows of its own; received the same rows as span "
        "2026-01-01, which is not in the window any more"
    )


def test_a_new_column_with_a_default_a_wider_type_and_a_column_that_is_gone(fares):
    land(fares, 3, rain=lambda number: number % 3, miles=lambda number: number + 0.5)
    told = walk(fares, "--default", "rain=0")
    assert "`rain`: 0 where it is missing" in told and "`miles`: type INT -> FLOAT" in told
    assert "`visits`: gone from the data" in told
    reads(fares, "fare", "miles", "rain")
    assert trained_on(fares) == days(1, 2, 3)


def test_a_renamed_column_is_required_and_the_window_begins_where_it_exists(fares):
    land(fares, 4, rainfall=lambda number: number % 3)
    told = walk(fares, "--required", "rainfall")
    assert "`rainfall`: new feature INT, one value" in told
    text = fares.project.schema_path.read_text()
    block = text[text.index('name: "rainfall"') :]
    served = block.replace('  not_in_environment: "SERVING"\n', "", 1)  # clients send it now
    fares.project.schema_path.write_text(text.replace(block, served))
    reads(fares, "fare", "miles", "rainfall")
    assert trained_on(fares) == days(4)
    reasons = Ledger(load_project(fares.folder).ledger_url).newest_run()[2].body.reasons
    assert any("left out of the window: 2026-01-01 to 2026-01-03" in reason for reason in reasons)


def test_a_narrower_and_another_type(fares):
    """Whole numbers are numbers; words are none, and a span of words cannot be read as numbers."""
    words = {"miles": lambda number: ("near", "far")[number % 2]}
    land(fares, 5, fare=lambda number: number % 50, rainfall=lambda number: 1, **words)
    assert "`miles`: type FLOAT -> BYTES" in walk(fares)
    reads(fares, "fare", "rainfall")
    assert trained_on(fares) == days(4, 5)


def test_an_optional_column_is_required_later(fares):
    land(
        fares,
        6,
        fare=lambda n: n % 50,
        visits=lambda n: 2,
        rainfall=lambda n: 1,
        miles=lambda n: "far",
    )
    told = walk(fares, "--required", "visits")
    assert "`visits`: has values now: in use as INT, one value" in told
    assert trained_on(fares) == days(6)
