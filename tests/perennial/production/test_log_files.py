"""Files of the prediction log: complete, merged, and every row once."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.production.log_files import (
    GRACE,
    LogFile,
    LogFiles,
    choose_current,
    part_name,
)
from perennial.production.prediction_log import LoggedAnswer, Masks, make_tables
from tests.perennial.production.rows import NOON, answer
from tests.s3 import S3

DOCS = Path(__file__).parents[3] / "docs" / "serving.md"
LATER = NOON + timedelta(days=2)


def write(log: LogFiles, number: int, *answers: LoggedAnswer) -> None:
    for day, table in make_tables(answers, Masks("id")):
        assert log.write(table, day, part_name(NOON, "writer", number))


def keys(log: LogFiles) -> list[str]:
    tables = log.read(None, lambda name: name == "key")
    return sorted(key for table in tables for key in table["key"].to_pylist())


@pytest.fixture
def log(tmp_path: Path) -> LogFiles:
    """A log of one day in three files."""
    log = LogFiles(str(tmp_path / "root"))
    for number in range(3):
        write(log, number, answer(f"r{number}", [f"k{number}", "again"]))
    return log


def test_a_day_becomes_one_file_and_no_row_is_read_twice(log: LogFiles, tmp_path: Path) -> None:
    every = ["again"] * 3 + ["k0", "k1", "k2"]
    assert log.merge(NOON.date(), NOON) == 0, "the day goes on"
    assert log.merge(LATER.date(), LATER) == 3
    assert len(list(tmp_path.rglob("*.parquet"))) == 4
    assert keys(log) == every
    assert rows_by_query(tmp_path / "root") == 6, "the documented query reads no row twice"
    now = datetime.now(UTC)
    assert log.remove_replaced(now) == 0, "readers may have them in hand"
    assert log.remove_replaced(now + 2 * GRACE) == 3
    assert keys(log) == every
    # What a server publishes late joins the day.
    write(log, 9, answer("late", ["late"]))
    assert log.merge(LATER.date(), LATER) == 2
    assert keys(log) == [*every, "late"]
    assert rows_by_query(tmp_path / "root") == 7


def test_files_of_other_columns_stay_apart(log: LogFiles) -> None:
    table = make_tables([answer("r", ["k9"])], Masks("id", frozenset({"image"})))[0][1]
    for number in (7, 8):
        log.write(table, NOON.date(), part_name(NOON, "writer", number))
    assert log.merge(LATER.date(), LATER) == 5
    assert len(log.listing().current) == 2


def test_a_key_is_gone_from_every_file(log: LogFiles, tmp_path: Path) -> None:
    log.merge(LATER.date(), LATER)
    write(log, 9, answer("r9", ["again"]))
    assert log.remove_key("again") == 4
    assert keys(log) == ["k0", "k1", "k2"]
    assert rows_by_query(tmp_path / "root") == 3, "replaced files are gone at once"
    assert log.remove_key("again") == 0


def test_old_days_are_found(log: LogFiles) -> None:
    assert log.older_than(NOON.date()) == []
    old = log.older_than(NOON.date() + timedelta(days=1))
    log.remove(old)
    assert len(old) == 3
    assert keys(log) == []


@settings(max_examples=200)
@given(st.data())
def test_whatever_is_merged_and_removed_each_row_is_read_once(data: st.DataObject) -> None:
    """Two processes merge what each of them sees; files that are replaced are removed at times."""
    contents: dict[str, frozenset[str]] = {}
    rows = {f"part-{number}": {number} for number in range(4)}
    files = dict.fromkeys(rows, False)
    for _ in range(data.draw(st.integers(1, 6))):
        current, replaced = choose_current(list(map(_file, files.items())), contents)
        if data.draw(st.booleans()):
            for gone in (file for each in replaced.values() for file in each):
                del files[gone.name]
            continue
        seen = [file.name for file in current if data.draw(st.booleans())]
        again = [file.name for file in current if data.draw(st.booleans())]
        for names in (seen, again):
            if len(names) > 1:
                name = f"day-{'+'.join(sorted(names))}"
                contents[name] = frozenset(names).union(*(contents.get(n, ()) for n in names))
                rows[name] = set().union(*(rows[n] for n in names))
                files[name] = True
    current, _ = choose_current(list(map(_file, files.items())), contents)
    read = [row for file in current for row in rows[file.name]]
    assert sorted(read) == [0, 1, 2, 3]


def rows_by_query(root: Path) -> int:
    """Counts the rows that the documented query reads."""
    (query,) = re.findall(r"```sql\n(SELECT[^`]*?)```", DOCS.read_text(), re.DOTALL)
    local = query.replace(".perennial/predictions", str(root / "predictions"))
    return len(duckdb.sql(local).fetchall())


def _file(named: tuple[str, bool]) -> LogFile:
    return LogFile(named[0], date(2026, 1, 31), named[1], 1, NOON)


def test_a_root_on_a_server_holds_the_log_as_a_folder_does(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    log = LogFiles(s3.new_root())
    for number in range(2):
        write(log, number, answer(f"r{number}", [f"k{number}", "again"]))
    assert log.merge(LATER.date(), LATER) == 2
    assert keys(log) == ["again", "again", "k0", "k1"]
    assert log.remove_key("again") == 2
    assert keys(log) == ["k0", "k1"]
    log.remove(log.older_than(LATER.date()))
    assert keys(log) == []
