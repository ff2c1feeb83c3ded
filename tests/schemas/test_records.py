"""Records that steps leave in their folders read and write their own files."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest

import schemas.records as r
from schemas.records import Decision, FileRecord, ServingCheck

CHECK = ServingCheck(
    passed=True, requests=3, largest_difference=0.0, seconds_to_ready=1.5, message="Größe"
)


def test_a_record_survives_its_file_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "not yet" / "there"
    CHECK.write(folder)
    assert ServingCheck.read(folder) == CHECK
    other = CHECK.model_copy(update={"largest_difference": math.inf})
    other.write(folder)
    assert ServingCheck.read(folder) == other
    assert [path.name for path in folder.iterdir()] == ["serving_check.json"]


def test_each_record_of_a_step_has_a_file_of_its_own() -> None:
    kinds = [
        kind for _, kind in inspect.getmembers(r, inspect.isclass) if issubclass(kind, FileRecord)
    ]
    names = [kind.FILE for kind in kinds if kind is not FileRecord]
    assert len(names) == len(set(names)) >= 12 and all(name.endswith(".json") for name in names)


def test_a_record_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"decision\.json"):
        Decision.read(tmp_path)


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (b'{"promote": tr', "the whole file: Invalid JSON"),
        (b"\xff", "the whole file: Invalid JSON"),
        (b'{"promote": true, "reasons": [1]}', "criteria: Field required"),
        (
            b'{"promote": true, "criteria": [], "reasons": [], "not_compared": [], "later": 1}',
            "later: Extra inputs are not permitted",
        ),
    ],
)
def test_a_damaged_record_is_refused_with_its_file(
    tmp_path: Path, data: bytes, received: str
) -> None:
    (tmp_path / Decision.FILE).write_bytes(data)
    with pytest.raises(ValueError) as refused:
        Decision.read(tmp_path)
    assert (
        f"{tmp_path / Decision.FILE} must hold a record of the type Decision. Received: {received}"
        in str(refused.value)
    )


def test_every_field_is_written_by_the_product() -> None:
    """What is only ever its default decides nothing, whatever reads it."""
    root = Path(__file__).parents[2]
    rooms = ("components", "perennial", "pipelines", "serving")
    source = "\n".join(file.read_text() for room in rooms for file in (root / room).rglob("*.py"))
    written = set(re.findall(r"\b(\w+)=|\"(\w+)\":", source))
    names = {name for pair in written for name in pair}
    kinds = [
        kind for _, kind in inspect.getmembers(r, inspect.isclass) if issubclass(kind, r.Record)
    ]
    unwritten = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, field in kind.model_fields.items()
        if not field.is_required() and name not in names
    ]
    assert unwritten == []
