"""The tree of errors: all that a person sees stand in one module, and its picture shows them."""

from __future__ import annotations

import ast
import errno
import os
import sqlite3
import ssl
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from perennial import errors

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    name
    for name, member in vars(errors).items()
    if isinstance(member, type) and issubclass(member, errors.PerennialError)
}


def test_no_error_that_a_person_sees_is_defined_elsewhere():
    strays = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for package in ("perennial", "components", "pipelines", "serving", "schemas")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and NAMES & {ast.unparse(base).split(".")[-1] for base in node.bases}
    ]
    assert strays == []


def test_the_picture_shows_every_error_below_its_parent():
    picture = errors.__doc__.splitlines()
    depths = {word: line.index(word) for line in picture for word in line.split() if word in NAMES}
    assert depths.keys() == NAMES
    for name in NAMES - {"PerennialError"}:
        parent = getattr(errors, name).__mro__[1].__name__
        assert depths[name] > depths[parent]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EROFS, "data/day.csv lies on a read-only file system. Make it writable, or work in"),
        (errno.EACCES, "this account may not use data/day.csv. Correct its rights"),
        (errno.ENOENT, "data/day.csv does not exist. Check its name"),
        (errno.EMFILE, "too many files are open at once. Raise the limit"),
        (errno.EDQUOT, "quota of the disk is used up. Free some space"),
        (errno.EIO, "data/day.csv cannot be read or written: check the disk"),
    ],
)
def test_an_error_of_the_system_says_what_to_do(number, message):
    error = OSError(number, os.strerror(number), "data/day.csv")
    described = errors.describe_error(error)
    assert message in described and "Errno" not in described


def test_a_full_disk_is_one_whoever_tells_of_it():
    with pytest.raises(OSError) as full, Path("/dev/full").open("w") as device:
        device.write("x")
    assert errors.describe_error(full.value).startswith("there is no space left on the disk")


def _fill(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE rows (text)")
        connection.execute("INSERT INTO rows VALUES (?)", ["x" * 100_000])


def _write_read_only(path):
    sqlite3.connect(path).close()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("CREATE TABLE rows (text)")


def _open_without_folder(path):
    sqlite3.connect(path / "nowhere" / "file.db")


def _open_garbage(path):
    path.write_bytes(b"no database at all" * 100)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT * FROM rows"))


@pytest.mark.parametrize(
    ("provoke", "message"),
    [
        (_fill, "there is no space left on the disk. Free some"),
        (_write_read_only, "may not be written. Correct their rights"),
        (_open_without_folder, "cannot be opened. Check that its folder exists"),
        (_open_garbage, "is not a database of SQLite"),
    ],
)
def test_an_error_of_sqlite_says_what_to_do(provoke, message, tmp_path):
    with pytest.raises((sqlite3.Error, sqlalchemy.exc.SQLAlchemyError)) as refused:
        provoke(tmp_path / "file.db")
    assert message in errors.describe_error(refused.value)


def test_a_sentence_that_was_received_ends_once():
    error = errors.DataError("day.csv", "must be readable", "the disk is full. Free some.", "Then.")
    assert str(error) == "day.csv must be readable. Received: the disk is full. Free some. Then."


def test_a_number_of_openssl_is_not_taken_for_one_of_the_system():
    error = ssl.SSLCertVerificationError(errno.EPERM, "certificate verify failed")
    assert "certificate verify failed" in errors.describe_error(error)
